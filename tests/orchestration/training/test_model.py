"""From tiles in the store and a label archive to a checkpoint that the segmentation loads, as Dagster runs it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import obstore
import pytest
import torch

from darts_assets.definitions import build_defs
from darts_assets.demo import build_world
from darts_assets.demo.in_memory_chain import scene_features
from darts_assets.model import read_header
from darts_assets.orchestration.core.partitions import PLANET, STEPS
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.training.common import DATASET, MODEL, PLANET_SAMPLES, REPORT
from darts_assets.orchestration.training.dataset_check import LeakageConfig, leakage_check
from darts_assets.settings import Settings
from darts_assets.stores.publish import Place
from darts_assets.stores.tiles import read_tile, write_tile
from darts_assets.tiles import TileStream, geobox_of
from tests.e2e.asset_runs import failure, run, said
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow

FIT = {
    "encoder_name": "timm-mobilenetv3_small_minimal_100",
    "architecture": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
    "split_by": "block", "folds": 2, "epochs": 2, "batch_size": 4, "device": "cpu",
}  # fmt: skip


class Workshop:
    """A store with preprocessed tiles of two images, and an archive of labels for them."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.labels = folder / "labels" / "TrainingLabel_RTS_iteration001"
        self.settings = Settings(store=str(self.store))
        self.instance = dg.DagsterInstance.ephemeral()
        world = build_world(folder / "world", seed=11, scenes=2, size=256, slumps=8)
        self.images = [f"2023071{number}_200901_10_2442" for number in range(2)]
        self.instance.add_dynamic_partitions(PLANET.partitions.name, self.images)
        truth = gpd.read_file(world.truth)
        outlines, footprints = [], []
        for image, item in zip(self.images, world.items, strict=True):
            tile = scene_features(world, item, "darts-2025")
            grid = geobox_of(tile)
            place = Place(self.settings.root.child("tiles", "planet", "preprocessed_tile", image))
            stream = TileStream(grid, tuple(map(str, tile.data_vars)), iter([tile]), dict(tile.attrs))
            write_tile(place, stream, metadata={"provenance": {"data_version": "one"}})
            footprints.append(
                {"image_id": image, "datasource": "PlanetScope Scene", "geometry": grid.extent.to_crs("EPSG:4326").geom}
            )
            here = truth[truth["scene_id"] == item.stem].to_crs("EPSG:4326")
            outlines += [{"image_id": image, "label": 1, "geometry": shape} for shape in here.geometry]
        self.labels.mkdir(parents=True)
        for name, rows in (("TrainingLabel_RTS", outlines), ("ImageFootprints_RTS", footprints)):
            gpd.GeoDataFrame(rows, crs="EPSG:4326").to_file(self.labels / f"{name}.gpkg")

    def run(self, key: dg.AssetKey, partition: str | None = None, **config: Any) -> dg.ExecuteInProcessResult:
        return run(self.settings, self.instance, key, partition, **config)

    def said(self, key: dg.AssetKey, partition: str | None = None, **config: Any) -> dict[str, Any]:
        return said(self.settings, self.instance, key, partition, **config)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and wait for each other where other tests run beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("workshop"))
    for image in made.images:
        facts = made.said(
            PLANET_SAMPLES, image, labels=str(made.labels), patch_size=64, overlap=0, exclude_nan=False
        )  # fmt: skip
        assert facts["patches"] > 4
        assert facts["outlines"] > 2
    assembled = made.said(DATASET)
    rows = [dict(record.data) for record in assembled["regions"].records]
    assert [(row["region"], row["images"], row["patches"]) for row in rows] == [("none", 2, assembled["patches"])]
    assert 0 < assembled["with_slumps"] < assembled["patches"]
    return made


@pytest.fixture(scope="module")
def trained(workshop: Workshop) -> dict[str, Any]:
    return workshop.said(MODEL, **FIT)


def test_a_model_is_trained_judged_and_loaded(workshop: Workshop, trained: dict[str, Any]) -> None:
    facts = trained
    header = read_header(facts["path"])
    assert (header.name, header.sha256, header.terrain) == ("slumps", facts["sha256"], "darts-2025")
    assert header.normalization == "valid-range-1"
    assert facts["patches"]["training"] > 0 < facts["patches"]["validation"]
    assert set(facts["validation"]) >= {"iou", "f1", "precision", "recall", "auroc", "best_threshold"}
    assert len(facts["history"]) == facts["epochs"] == 2
    for name in ("Losses", "Curves", "Examples"):
        assert facts[name].startswith("![](data:image/webp;base64,")
        assert len(facts[name]) < 70_000
    assert not list((workshop.store / "models" / "unfinished").glob("*/*")), "what is finished leaves no state"

    report = workshop.said(REPORT, device="cpu")
    assert report["part"] == "validation"
    assert report["iou"] == pytest.approx(facts["validation"]["iou"])
    assert report["patches"] == facts["patches"]["validation"]
    assert [dict(record.data)["region"] for record in report["regions"].records] == ["none"]
    assert {"Reliability", "Thresholds", "Examples"} <= report.keys()
    everything = workshop.said(REPORT, device="cpu", part="all", checkpoint=facts["path"])
    assert everything["patches"] == sum(facts["patches"].values())


@pytest.fixture
def remote(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Settings of a store on S3 that has the tile of an image, and of a model by its name."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    server = S3Server(tmp_path)
    root = server.location("store")
    here = workshop.settings.root
    tile = f"tiles/planet/preprocessed_tile/{workshop.images[0]}"
    for path in filter(Path.is_file, (here.path / tile).rglob("*")):
        obstore.put(root.objects(), str(path.relative_to(here.path)), path)
    yield Settings(store=root.url, store_endpoint=root.endpoint, store_region=root.region, models=("slumps",))
    server.stop()


def test_a_trained_model_segments_where_the_store_is_s3(
    workshop: Workshop, trained: dict[str, Any], remote: Settings
) -> None:
    image, key = workshop.images[0], PLANET.key("segmentation")
    obstore.put(remote.root.child("models").objects(), "slumps.ckpt", Path(trained["path"]))
    small = {"patch_size": 128, "overlap": 32, "device": "cpu"}
    here, there = (
        said(settings, workshop.instance, key, image, **small)
        for settings in (workshop.settings.model_copy(update={"models": (trained["path"],)}), remote)
    )
    assert there["models"] == here["models"] == {"slumps": trained["sha256"]}
    assert there["provenance"]["data_version"] == here["provenance"]["data_version"]
    one, other = (
        read_tile(Place(root.child("tiles", *key.path, image)))["probabilities"].values
        for root in (workshop.settings.root, remote.root)
    )
    np.testing.assert_array_equal(one, other)
    assert np.nanmax(one) > np.nanmin(one)

    # The report takes it from there, too.
    asked = workshop.settings.model_copy(update={"store_endpoint": remote.store_endpoint, "store_region": "us-east-1"})
    url = f"{remote.store}/models/slumps.ckpt"
    report = said(asked, workshop.instance, REPORT, device="cpu", checkpoint=url)
    assert report["part"] == "validation"
    assert report["iou"] == pytest.approx(trained["validation"]["iou"])


def test_the_set_is_proven_to_leak_nothing_and_a_copy_is_refused(workshop: Workshop) -> None:
    config, store = LeakageConfig(), Store(url=str(workshop.store))
    result = leakage_check(dg.build_asset_check_context(), config, store)
    assert result.passed
    rows = {str(record.data["split_by"]): dict(record.data) for record in result.metadata["splits"].records}
    assert rows["auto"]["unit"] == "block"
    assert rows["block"]["leaks"] == "none"
    assert "2 folds by sample need at least as many groups" in rows["sample"]["note"], "both images show one place"
    samples = workshop.store / "training" / "default" / "samples"
    shutil.copytree(samples / workshop.images[0], samples / "copy", symlinks=True)
    try:
        pointer = samples / "copy" / "current.json"
        pointer.write_text(pointer.read_text().replace(f'"sample_id": "{workshop.images[0]}"', '"sample_id": "copy"'))
        tables = list((samples / "copy").rglob("patches.parquet"))
        for table in tables:
            gpd.read_parquet(table).assign(sample_id="copy").to_parquet(table)
        assert "patches with the same pixels" in failure(workshop.run(DATASET))
    finally:
        shutil.rmtree(samples / "copy")


def test_the_same_config_makes_the_same_version(workshop: Workshop, trained: dict[str, Any]) -> None:
    again, other = (workshop.said(MODEL, **{**FIT, **more}) for more in ({"readers": 1}, {"seed": 3, "name": "other"}))
    assert trained["sha256"] == again["sha256"]
    versions = [each["provenance"]["data_version"] for each in (trained, again, other)]
    assert versions[0] == versions[1] != versions[2]


@pytest.mark.parametrize(
    ("key", "config", "words"),
    [
        (MODEL, {**FIT, "dataset": "nowhere"}, "nothing has been published"),
        (MODEL, {**FIT, "losses": {"dise": 1}}, "SettingsError: unknown loss dise"),
        (MODEL, {**FIT, "folds": 30}, "30 folds by block need at least as many groups"),
        (REPORT, {"checkpoint": "nobody", "device": "cpu"}, "CheckpointError: checkpoint .*nobody.ckpt cannot be read"),
    ],
)
def test_what_is_wrong_is_named(workshop: Workshop, key: dg.AssetKey, config: dict[str, Any], words: str) -> None:
    result = workshop.run(key, **config)
    assert not result.success
    assert re.search(words, failure(result)), failure(result)


def test_an_image_without_a_tile_or_a_footprint_is_named(workshop: Workshop) -> None:
    strange = "20200101_000000_00_0000"
    workshop.instance.add_dynamic_partitions(PLANET.partitions.name, [strange])
    assert f"no footprint of image '{strange}'" in failure(
        workshop.run(PLANET_SAMPLES, strange, labels=str(workshop.labels))
    )


def test_the_lineage_leads_from_scenes_to_models_and_a_group_selects_the_chain_alone() -> None:
    graph = build_defs(Settings()).resolve_asset_graph()
    below = dg.AssetSelection.assets(PLANET.key("raw_scene")).downstream().resolve(graph)
    assert {dg.AssetKey(["training", name]) for name in ("planet_samples", "dataset", "model")} < below
    assert dg.AssetSelection.groups("planet").resolve(graph) == {PLANET.key(step) for step in STEPS}
