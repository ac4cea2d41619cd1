"""The data set as assets: tables by year, and releases that do not change, with defaults of the settings file."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.orchestration.catalog.dataset_assets import COVERAGE, LEVEL1, LEVEL2, RELEASE, build_dataset
from darts_assets.orchestration.core.resources import Store
from darts_assets.settings import Settings
from darts_assets.settings_file import SettingsFile
from tests.dataset.published_world import publish_world, scenes
from tests.inventory.planted import Planted, square

FILE = SettingsFile(Path("darts.toml"), {}, {"release": {"institution": "Institute", "name": "RTS"}})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(url=str(tmp_path / "store"))
    publish_world(store.root, scenes())
    return store


def run(store: Store, **config: Any) -> dict[dg.AssetKey, dict[str, Any]]:
    """Materialize the group; the metadata of each asset."""
    assets = build_dataset(FILE)
    ops = {"dataset__release": {"config": config}, "dataset__coverage": {"config": {"cell_m": 100}}}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            assets, instance=instance, resources={"store": store}, run_config={"ops": ops}, raise_on_error=False
        )
        if not result.success:
            failures = [event for event in result.all_events if event.is_step_failure]
            raise AssertionError(failures[0].step_failure_data.user_failure_data.description)
        events = result.get_asset_materialization_events()
    return {
        event.asset_key: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in events
    }


def test_the_group_makes_tables_and_a_release(store: Store) -> None:
    first = run(store, version="1.0")
    assert first[LEVEL1]["years_written"] == first[COVERAGE]["years_written"] == [2021, 2022, 2023]
    assert first[LEVEL2]["dagster/row_count"] == 6
    release = first[RELEASE]
    assert (release["is_new"], release["years"], release["sites"], release["images"]) == (True, [2021, 2023], 6, 7)
    folder = store.root.path / "dataset" / "release" / "1.0" / "latest"
    assert folder.samefile(release["path"])
    assert "Institute" in (folder / "README.md").read_text()
    assert (folder / "RTS_v1-0_features_2021-2023_level1.gpkg").is_file()

    again = run(store, version="1.0")
    assert again[LEVEL1]["years_written"] == again[COVERAGE]["years_written"] == []
    assert again[LEVEL2]["dagster/row_count"] == 6
    assert [
        len(list((store.root.path / "dataset" / name).glob("2*"))) for name in ("level1", "level2", "coverage")
    ] == [1] * 3
    assert (again[RELEASE]["is_new"], again[RELEASE]["files"]) == (False, release["files"])

    more = [*scenes(), Planted(210, [square(0, 0, 160)], square(-1000, -1000, 6000), year=2023)]
    publish_world(store.root, more)
    with pytest.raises(AssertionError, match=r"is published with other content .* choose another `version`"):
        run(store, version="1.0")
    third = run(store, version="1.1")
    assert third[LEVEL1]["years_written"] == []  # by the run that was refused
    assert (third[RELEASE]["is_new"], third[RELEASE]["images"]) == (True, 8)
    assert (folder / "RTS_v1-0_features_2021-2023_level1.gpkg").is_file()


def test_the_settings_file_has_a_table_for_releases() -> None:
    (release,) = [asset for asset in build_dataset(FILE) if asset.key == RELEASE]
    fields = release.op.config_schema.config_type.fields
    assert fields["institution"].default_value == "Institute"
    with pytest.raises(Exception, match=r"\[release\] licens is not a parameter of release, did you mean licence\?"):
        build_dataset(SettingsFile(Path("darts.toml"), {}, {"release": {"licens": "x"}}))


def test_a_release_is_downstream_of_catalog_and_inventory() -> None:
    graph = build_defs(Settings()).resolve_asset_graph()
    upstream = {key.to_user_string() for key in graph.get(RELEASE).parent_keys}
    assert upstream == {"dataset/level1", "dataset/level2", "dataset/coverage", "inventory/slumps", "catalog/stac"}
    assert {key.to_user_string() for key in graph.get(LEVEL1).parent_keys} == {"catalog/detections", "inventory/slumps"}
