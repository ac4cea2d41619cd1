"""The paths of a scene: current versions, the same that the commands print."""

from datetime import timedelta
from pathlib import Path

import obstore
import pytest
import xarray as xr
from click.testing import CliRunner

from darts_assets.cli import cli
from darts_assets.errors import StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.replaced_versions import place_at
from darts_assets.stores.scene_paths import scene_paths
from darts_assets.stores.tiles import write_tile
from tests.stores.test_publish import stream, tile


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreLocation:
    root = StoreLocation(str(tmp_path / "store"))
    for parts in (("raw", "cdse", "S"), ("tiles", "sentinel2", "preprocessed_tile", "S")):
        write_tile(place_at(root, *parts, grace=timedelta(1)), stream(tile()), metadata={})
    place = place_at(root, "products", "sentinel2", "S", grace=timedelta(1))
    with place.new_version() as version:
        obstore.put(version.location.objects(), "metadata.json", b"{}")
        place.publish(version, {"metadata.json": version.id}, {})
    monkeypatch.setenv("DARTS_STORE", str(root.path))
    return root


def test_paths_lead_to_the_current_versions(root: StoreLocation) -> None:
    paths = scene_paths(root, "S")
    assert list(paths) == ["raw_scene", "preprocessed_tile", "products"]
    for step in ("raw_scene", "preprocessed_tile"):
        assert set(xr.open_zarr(paths[step]).data_vars) == {"red", "tc_wetness"}
    assert (Path(paths["products"]) / "metadata.json").read_text() == "{}"
    with pytest.raises(StoreError, match="nothing of scene T is published"):
        scene_paths(root, "T")


def test_the_command_prints_all_paths_or_that_of_a_step(root: StoreLocation) -> None:
    paths, run = scene_paths(root, "S"), CliRunner().invoke
    assert run(cli, ["path", "S"]).output.split() == [word for pair in paths.items() for word in pair]
    assert run(cli, ["path", "S", "preprocessed_tile"]).output.strip() == paths["preprocessed_tile"]
    for arguments, words in ((["S", "polygons"], "scene S has no polygons; it has raw_scene"), (["T"], "scene T")):
        failed = run(cli, ["path", *arguments])
        assert failed.exit_code == 1
        assert words in failed.output


def test_the_command_migrates_a_store(root: StoreLocation) -> None:
    assert (
        CliRunner().invoke(cli, ["migrate"]).output
        == "0 tiles and 0 cubes converted; the store has the layout of this release\n"
    )
