"""The lineage from scenes to what is made from all of them."""

import time
from typing import Any

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.partitions import FAMILIES, SENTINEL2, STEPS, all_scenes
from darts_assets.settings import Settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.fixture(scope="module")
def graph() -> Any:
    return build_defs(Settings()).resolve_asset_graph()


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(name.split("/"))


def test_the_graph_shows_what_is_made_from_scenes(graph: Any) -> None:
    for family in FAMILIES.values():
        for child, step in (
            ("inventory/rts", "polygons"),
            ("catalog/stac", "products"),
            ("catalog/detections", "products"),
        ):
            assert family.key(step) in graph.get(key(child)).parent_keys
            assert isinstance(
                graph.get_partition_mapping(key(child), parent_asset_key=family.key(step)), dg.AllPartitionMapping
            )
    upstream = ("inventory/slumps", "inventory/chips", "catalog/stac", "area_estimation/sample")
    assert {key(name) for name in upstream} == graph.get(key("catalog/map")).parent_keys
    downstream = {
        node.to_user_string()
        for node in dg.AssetSelection.from_string('key:"sentinel2/preprocessed_tile"+').resolve(graph)
    }
    assert downstream >= {"inventory/slumps", "training/sentinel2_samples", "training/dataset", "training/report"}
    assert key("planet/preprocessed_tile") in graph.get(key("training/planet_samples")).parent_keys


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_a_group_is_one_chain(graph: Any, family: object) -> None:
    assert isinstance(family, type(SENTINEL2))
    selected = dg.AssetSelection.from_string(f'group:"{family.name}"').resolve(graph)
    assert selected == {family.key(step) for step in STEPS}


def test_no_automation_follows_the_edges(graph: Any) -> None:
    assert all(graph.get(asset).automation_condition is None for asset in graph.get_all_asset_keys())


@pytest.mark.slow
def test_many_scenes_upstream_cost_a_year_few_seconds() -> None:
    @dg.asset(key=SENTINEL2.key("polygons"), partitions_def=SENTINEL2.partitions)
    def polygons() -> None: ...

    years = dg.StaticPartitionsDefinition(["2022", "2023"])

    def seconds(instance: dg.DagsterInstance, *deps: dg.AssetDep) -> float:
        @dg.asset(partitions_def=years, deps=deps)
        def year() -> None: ...

        began = time.perf_counter()
        for each in ("2022", "2023"):
            assert dg.materialize(
                [polygons, year], selection=[year], partition_key=each, instance=instance, run_config=QUIET
            ).success
        return (time.perf_counter() - began) / 2

    with dg.DagsterInstance.ephemeral() as instance:
        scenes = [f"S2B_MSIL2A_{number:06d}" for number in range(100_000)]
        instance.add_dynamic_partitions(str(SENTINEL2.partitions.name), scenes)
        for scene in scenes[:3]:
            assert dg.materialize([polygons], partition_key=scene, instance=instance, run_config=QUIET).success
        without = seconds(instance)
        with_lineage = seconds(instance, all_scenes("polygons")[0])
        print(f"without {without:.2f} s, with {with_lineage:.2f} s")
        assert with_lineage - without < 4
