"""How the catalog stands in the graph: beside the chains, brought up to date by a job, every night by who wants it."""

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.partitions import PLANET, SENTINEL2, SceneFamily
from darts_assets.settings import Settings


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs(Settings())


@pytest.mark.parametrize("family", [SENTINEL2, PLANET], ids=lambda family: family.name)
@pytest.mark.parametrize("step", ["raw_scene", "segmentation", "polygons"])
def test_what_is_selected_downstream_of_a_scene_is_its_map(
    defs: dg.Definitions, family: SceneFamily, step: str
) -> None:
    graph = defs.resolve_asset_graph()
    selected = dg.AssetSelection.from_string(f'group:"{family.name}" and key:"{family.name}/{step}"+').resolve(graph)
    assert family.key("products") in selected
    assert {key.path[0] for key in selected} == {family.name}
    assert all(graph.get(key).partitions_def == family.partitions for key in selected)


def test_the_job_writes_the_catalog_of_all_scenes_at_once(defs: dg.Definitions) -> None:
    job = defs.resolve_job_def("publish_catalog")
    assert job.partitions_def is None
    assert set(job.asset_layer.selected_asset_keys) == {
        dg.AssetKey(["catalog", name]) for name in ("stac", "detections", "map")
    }  # fmt: skip
    assert {node.definition.pool for node in job.graph.nodes} == {"catalog"}


def test_the_schedule_is_off_at_first(defs: dg.Definitions) -> None:
    schedule = defs.resolve_schedule_def("publish_catalog_nightly")
    assert schedule.job_name == "publish_catalog"
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
