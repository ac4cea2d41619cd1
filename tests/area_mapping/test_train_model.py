"""`darts-assets train`, from labels and images to a checkpoint, with an instance of its own."""

import io
import re
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import pytest
import shapely
from rich.console import Console

from darts_assets.area_mapping.map_area import instance_home
from darts_assets.area_mapping.train_model import StepFailedError, TrainRequest, is_location, train_model
from darts_assets.definitions import build_defs
from darts_assets.errors import DartsError
from darts_assets.model import read_header
from darts_assets.orchestration.training.common import MODEL
from darts_assets.settings import Settings
from tests.sample_data import planet_deliveries as planet

SCENE = "S2_20210821T210019_20210821T210020_T08WMA"
MODEL_CONFIG: dict[str, Any] = {
    "encoder_name": "timm-mobilenetv3_small_minimal_100", "epochs": 1, "device": "cpu",
    "architecture": {"encoder_depth": 3, "decoder_channels": [16, 8, 8]},
}  # fmt: skip


class Desk:
    """A store without auxiliary layers, and what the command prints."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("STORE", str(folder / "store")), ("AUXILIARY", "none"), ("CONFIG", "none")):
            monkeypatch.setenv(f"DARTS_{name}", value)  # of the workers
        monkeypatch.delenv("DAGSTER_HOME", raising=False)
        self.settings = Settings(store=str(folder / "store"), auxiliary=())
        self.printed = io.StringIO()

    def train(self, labels: Path, *images: str, **config: Any) -> str:
        """The lines that a call prints."""
        start = self.printed.tell()
        console = Console(file=self.printed, width=400)
        self.home = instance_home(self.settings, console)
        request = TrainRequest(str(labels), images, model=MODEL_CONFIG, workers=1, **config)
        assert train_model(request, self.settings, build_defs(self.settings), self.home, console) == 0
        return self.printed.getvalue()[start:]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


@pytest.mark.slow
def test_outlines_of_experts_and_a_geotiff_become_a_model(desk: Desk, shared: Path) -> None:
    data = shared / "data" / "rts_digitization_experiment"
    image = str(data / "peel" / "data" / f"{SCENE}.tif")
    bands = {"bands": ["blue", "green", "red", "", "", "", "nir"]}
    lines = desk.train(data / "experts", image, scenes=bands, name="peel").splitlines()
    assert [line.partition(":")[0] for line in lines if "(" in line and "s)" in line] == [
        "Scenes", f"[1/1] 2021-08-21 {SCENE}", "Samples", "Set", "Training",
    ]  # fmt: skip
    assert "64 patches of 1 image, 18 with slumps; mean IoU between experts 0.59" in desk.printed.getvalue()
    assert "split by block of ground: the set has 1 region and 1 image" in desk.printed.getvalue()
    assert lines[-1].endswith("DARTS_MODELS=peel darts-assets map ...")
    header = read_header(desk.settings.root.child("models").path / "peel.ckpt")
    assert header.bands == ("red", "green", "blue", "nir", "ndvi")
    with dg.DagsterInstance.from_config(str(desk.home)) as instance:
        event = instance.get_latest_materialization_event(MODEL)
        assert event is not None
        assert event.asset_materialization is not None
        experts: Any = event.asset_materialization.metadata["experts"].value
        assert (experts["number"], round(experts["mean_iou"], 2)) == (12, 0.59)
    # Again: scenes are registered and preprocessed already, and the samples are up to date.
    again = desk.train(data / "experts", SCENE, name="again")
    assert "Preprocessing: 1 finished" in again
    assert "Scenes:" not in again


@pytest.mark.slow
def test_a_label_archive_and_planet_images_become_a_model(desk: Desk, tmp_path: Path) -> None:
    x, y = planet.WHERE
    home = tmp_path / "labels" / "TrainingLabel_iteration001"
    home.mkdir(parents=True)
    images = [planet.SCENE, planet.ORTHOTILE]
    places = [(x, y), (x + 5000, y)]
    for number, (image, where) in enumerate(zip(images, places, strict=True)):
        planet.write_image(tmp_path / "orders", image, side=128, where=where, brighter=100 * number)
    table = gpd.GeoDataFrame(
        {"image_id": images, "label": 1, "datasource": "Planet"},
        geometry=[shapely.box(x + 30, y - 120, x + 90, y - 60) for x, y in places], crs="EPSG:32608",
    )  # fmt: skip
    table.to_file(home / "TrainingLabel.gpkg")
    table.set_geometry([shapely.box(x, y - 384, x + 384, y) for x, y in places], crs="EPSG:32608").to_file(
        home / "ImageFootprints.gpkg"
    )
    with pytest.raises(DartsError, match=r"none of the 2 images .* --images matched"):
        desk.train(tmp_path / "labels")
    samples = {"patch_size": 32, "overlap": 0, "bands": ["red", "nir"], "exclude_nan": False}
    printed = desk.train(tmp_path / "labels", str(tmp_path / "orders"), samples=samples)
    assert "Images: 2 of 2 labelled images are there" in printed
    counts = [int(count) for count in re.findall(r"Samples \d of 2: (\d+) patches", printed)]
    assert len(counts) == 2
    assert min(counts) > 4
    assert f"Set: {sum(counts)} patches of 2 images" in printed
    assert read_header(desk.settings.root.child("models").path / "slumps.ckpt").bands == ("red", "nir")


@pytest.mark.parametrize(
    ("labels", "images", "words"),
    [
        ("nowhere.gpkg", (), "nowhere.gpkg: there is no such file or folder of labels"),
        ("labels.gpkg", (), "outlines need scenes"),
        ("labels.gpkg", ("clip.tif",), "Scenes: .*clip.tif.* does not exist|Scenes: .*clip.tif.*No such file"),
    ],
)
def test_what_is_wrong_is_named(desk: Desk, tmp_path: Path, labels: str, images: tuple[str, ...], words: str) -> None:
    gpd.GeoSeries([shapely.box(0, 70, 1, 71)], crs=4326).to_file(tmp_path / "labels.gpkg")
    with pytest.raises(DartsError, match=words):
        desk.train(tmp_path / labels, *images)


def test_images_are_locations_or_ids(tmp_path: Path) -> None:
    assert [is_location(image) for image in ("a.tif", "x/y", "item.json", str(tmp_path), SCENE)] == [
        True, True, True, True, False,
    ]  # fmt: skip
    assert issubclass(StepFailedError, DartsError)
