"""From a GeoTIFF of Sentinel-2 and the outlines of experts to a set, as Dagster runs it."""

import re
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import zarr

from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.training.common import DATASET, POLYGON_SAMPLES, SCENES
from darts_assets.orchestration.training.dataset_check import LeakageConfig, leakage_check
from darts_assets.settings import Settings
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.set_store import TrainingSetStore
from tests.e2e.asset_runs import failure, run, run_steps, said, warnings

pytestmark = pytest.mark.slow

SCENE = "S2_20210821T210019_20210821T210020_T08WMA"
BANDS = ["blue", "green", "red", "", "", "", "nir"]


class Peel:
    """A store with the preprocessed tile of the Peel clip, without auxiliary layers."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.data, self.folder = data, folder
        self.settings = Settings(store=str(folder / "store"), auxiliary=())
        self.instance = dg.DagsterInstance.ephemeral()
        self.scenes = self.said(SCENES, images=[str(data / "peel" / "data" / f"{SCENE}.tif")], bands=BANDS)
        steps = [SENTINEL2.key(step) for step in ("raw_scene", "auxiliary", "preprocessed_tile")]
        assert run_steps(self.settings, self.instance, steps, SCENE).success

    def said(self, key: dg.AssetKey, partition: str | None = None, **config: Any) -> dict[str, Any]:
        return said(self.settings, self.instance, key, partition, **config)

    def opened(self, dataset: str) -> TrainingSet:
        return TrainingSet.open(TrainingSetStore(self.settings.root.child("training", dataset)).current)


@pytest.fixture(scope="module")
def peel(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Peel:
    return Peel(tmp_path_factory.mktemp("peel"), shared / "data" / "rts_digitization_experiment")


@pytest.fixture(scope="module")
def samples(peel: Peel) -> dict[str, Any]:
    return peel.said(POLYGON_SAMPLES, SCENE, labels=str(peel.data / "experts"), dataset="experts")


def test_a_geotiff_becomes_a_scene(peel: Peel) -> None:
    assert (peel.scenes["scenes"], peel.scenes["new"]) == ([SCENE], 1)


def test_size_and_bands_suit_a_small_clip_and_are_said(samples: dict[str, Any]) -> None:
    assert samples["choices"] == [
        "patches of 32 pixels for a scene of 251 x 251",
        "5 bands; without data: relative_elevation, slope, aspect, hillshade, curvature, tc_brightness, tc_greenness, "
        "tc_wetness",
    ]
    assert (samples["patches"], samples["dropped"]) == (64, {})


def test_labels_of_twelve_experts_are_their_share(peel: Peel, samples: dict[str, Any]) -> None:
    assert samples["experts"] == [f"expert_{number:02d}" for number in range(1, 13)]
    assembled = peel.said(DATASET, dataset="experts")
    assert assembled["mean_iou_of_experts"] == pytest.approx(0.59, abs=0.01)
    pairs = [dict(record.data) for record in assembled["expert_pairs"].records]
    assert len(pairs) == 66
    assert pairs[0]["expert"] == "expert_01"
    data = peel.opened("experts")
    y = zarr.open_group(data.location.path / "data.zarr", mode="r")["y"]
    assert y.dtype == np.float32
    shares = np.unique(np.asarray(y[:]).round(5))
    np.testing.assert_allclose(shares, np.arange(13) / 12, atol=1e-5)
    assert list(data.samples["empty"]) == [not (patch > 0.5).any() for patch in y]
    written = pd.read_parquet(data.location.path / "experts.parquet")
    assert written["iou"].mean() == pytest.approx(assembled["mean_iou_of_experts"])
    assert data.experts["number"] == 12
    assert data.experts["mean_iou"] == pytest.approx(written["iou"].mean(), abs=1e-4)
    config = (data.location.path / "config.toml").read_text()
    assert 'labels = "agreement"' in config
    assert "[experts]\nnumber = 12\nmean_iou = 0.59" in config
    result = leakage_check(
        dg.build_asset_check_context(instance=peel.instance), LeakageConfig(), Store(url=peel.settings.root.url)
    )
    assert result.passed, result.description
    rows = {record.data["split_by"]: dict(record.data) for record in result.metadata["splits"].records}
    assert (rows["auto"]["unit"], rows["auto"]["folds"], rows["auto"]["leaks"]) == ("block", 5, "none")
    assert "1 region and 1 image, too few to divide it" in rows["auto"]["note"]


def test_one_expert_gives_classes_within_the_labelled_area(peel: Peel) -> None:
    area = peel.folder / "area.gpkg"
    gpd.read_file(peel.data / "peel" / "data" / "Peel_AOI_2500.geojson").to_crs(32608).buffer(-500).to_file(area)
    labels = peel.data / "experts" / "expert_01" / "Peel_digitized.shp"
    made = peel.said(POLYGON_SAMPLES, SCENE, labels=str(labels), area=str(area), dataset="one", bands=["red", "nir"])
    assert (made["outlines"], made["bands"], made["patch_size"]) == (10, ["red", "nir"], 32)
    assert made["dropped"].keys() == {"few visible"}
    assert "experts" not in made
    peel.said(DATASET, dataset="one")
    y = zarr.open_group(peel.opened("one").location.path / "data.zarr", mode="r")["y"]
    assert y.dtype == np.uint8
    assert set(np.unique(y[:])) == {0, 1, 2}
    assert peel.opened("one").experts == {}
    assert (np.asarray(y[:]) != 2).sum() < 160 * 160

    # A set that an earlier release assembled has neither hashes nor places on the grid, and is proven as well.
    table = peel.opened("one").location.path / "metadata.parquet"
    gpd.read_parquet(table).drop(columns=["content", "grid_row", "grid_col"]).to_parquet(table)
    context, store = dg.build_asset_check_context(instance=peel.instance), Store(url=peel.settings.root.url)
    result = leakage_check(context, LeakageConfig(dataset="one"), store)
    assert result.passed, result.description
    assert str(result.description).startswith(f"{made['patches']} patches: nothing is shared by auto")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"labels": "nowhere.gpkg"}, "nowhere.gpkg: cannot be read"),
        ({"labels": "{experts}", "patch_size": 8, "overlap": 8}, "overlap is 8, expected less than patch_size"),
        ({"labels": "{experts}", "area": "{far}"}, "the labelled area does not intersect the scene"),
        ({"labels": "{far}", "bands": ["slope", "sloop"]}, "bands: .*sloop"),
    ],
)
def test_what_is_wrong_is_named(peel: Peel, tmp_path: Path, config: dict[str, Any], words: str) -> None:
    far = tmp_path / "far.geojson"
    gpd.GeoSeries.from_wkt(["POLYGON ((20 70, 21 70, 21 71, 20 70))"], crs=4326).to_file(far)
    places = {"experts": str(peel.data / "experts"), "far": str(far)}
    config = {name: value.format(**places) if isinstance(value, str) else value for name, value in config.items()}
    result = run(peel.settings, peel.instance, POLYGON_SAMPLES, SCENE, dataset="wrong", **config)
    assert not result.success
    assert re.search(words, failure(result)), failure(result)


def test_a_scene_without_outlines_is_background_and_warns(peel: Peel, tmp_path: Path) -> None:
    outlines = gpd.read_file(peel.data / "experts" / "expert_01" / "Peel_digitized.shp").assign(scene_id="another")
    outlines.to_file(tmp_path / "labels.gpkg")
    result = run(
        peel.settings, peel.instance, POLYGON_SAMPLES, SCENE, dataset="none", labels=str(tmp_path / "labels.gpkg")
    )
    assert result.success
    assert warnings(peel.instance, result) == [
        f"{SCENE}: no outline lies on the scene; all of the labelled area is background"
    ]
