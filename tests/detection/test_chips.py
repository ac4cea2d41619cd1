import io
import zipfile

import geopandas as gpd
import numpy as np
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from darts_assets.detection import chips
from darts_assets.detection.chips import (
    DETECTED,
    MOST_BYTES,
    NOT_DETECTED,
    SIDE,
    draw_chips,
    encode,
    read_directory,
    write_chips,
)
from darts_assets.tiles import on_grid
from darts_assets.true_colour import NO_DATA


def tile(side: int = 400, metres: float = 10) -> xr.Dataset:
    """Grey in the west, green in the east of column 200, with a probability that is 1 south of row 200."""
    box = GeoBox((side, side), Affine(metres, 0, 450_000, 0, -metres, 7_720_000), "EPSG:32608")
    grey = np.full((side, side), 0.05, np.float32)
    green = grey.copy()
    green[:, 200:] = 0.15
    probability = np.zeros((side, side), np.float32)
    probability[200:] = 1
    quality = np.full((side, side), 2, np.uint8)
    return on_grid({"red": grey, "green": green, "blue": grey, "quality_data_mask": quality, "p": probability}, box)


def detections(*boxes: tuple[float, float, float, float]) -> gpd.GeoDataFrame:
    """Boxes in pixels of 10 m: west, north, east, south."""
    shapes = [
        shapely.box(450_000 + 10 * west, 7_720_000 - 10 * south, 450_000 + 10 * east, 7_720_000 - 10 * north)
        for west, north, east, south in boxes
    ]
    ids = np.arange(1, len(boxes) + 1) * 11
    return gpd.GeoDataFrame({"Region_ID": ids, "npixel": shapely.area(shapes) / 100}, geometry=shapes, crs="EPSG:32608")


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).astype(int)


def near(color: tuple[int, int, int], picture: np.ndarray) -> np.ndarray:
    """Where the hue is that of a colour: WebP halves the resolution of hues, so that thin lines are paler."""
    least, most = int(np.argmin(color)), int(np.argmax(color))
    return (picture[..., most] - picture[..., least] > 60) & (picture.argmin(axis=-1) == least)


def test_a_chip_shows_the_ground_the_outline_and_the_probability() -> None:
    world, outline = tile(), detections((190, 190, 210, 210))
    (chip,) = draw_chips(world, outline.geometry, world["p"])
    picture = pixels(chip.image)
    assert picture.shape == (SIDE, SIDE, 3)
    assert (chip.position, chip.width_m) == (0, 600)
    # 60 pixels in 176: the border between grey and green is in the middle, the outline 20 pixels wide around it.
    assert abs(picture[20, 20] - picture[20, 20].mean()).max() < 12
    assert picture[20, 150, 1] - picture[20, 150, 0] > 150
    rows, columns = np.nonzero(near(DETECTED, picture))
    assert (rows.min(), rows.max()) == pytest.approx((59, 117), abs=2)
    assert columns.min() == pytest.approx(59, abs=2)
    assert picture[80:100, 115:119, 0].max() > 100, "pink on green, which has no red"
    inset = picture[-50:-2, -50:-2]
    assert inset[:18].max() < 90, "black: not probable"
    assert (inset[30:, :, 0] > 200).all(), "yellow: certain"
    assert (picture[-52:-50, -40:-10].max(axis=0) > 150).all(), "a white frame"


def test_without_probabilities_the_corner_shows_the_ground() -> None:
    world, outline = tile(), detections((190, 190, 210, 210))
    (chip,) = draw_chips(world, outline.geometry, color=NOT_DETECTED)
    picture = pixels(chip.image)
    assert picture[-20, -20, 1] - picture[-20, -20, 0] > 150
    assert near(NOT_DETECTED, picture).sum() > 100
    assert not near(DETECTED, picture).any()


def test_a_chip_is_twice_as_wide_as_its_outline_and_at_least_600_metres() -> None:
    outlines = detections((190, 190, 192, 192), (100, 190, 200, 200), (0, 0, 399, 399)).geometry
    assert [chip.width_m for chip in sorted(draw_chips(tile(), outlines))] == [600, 2000, 7980]
    box = shapely.box(450_300, 7_719_300, 450_330, 7_719_330)
    (small,) = draw_chips(tile(metres=3), gpd.GeoSeries([box], crs="EPSG:32608"))
    assert small.width_m == 600


def test_outside_the_scene_there_is_no_data() -> None:
    corner, beside = detections((0, 0, 6, 6), (-900, -900, -890, -890)).geometry
    (chip,) = draw_chips(tile(), gpd.GeoSeries([corner, beside], crs="EPSG:32608"))
    picture = pixels(chip.image)
    assert near(NO_DATA, picture[:70]).all()
    assert near(NO_DATA, picture[:, :70]).all()
    assert not near(NO_DATA, picture[110:, 110:]).any()


def test_every_chip_is_small() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    image = encode(noise)
    assert len(image) < MOST_BYTES == 15_000
    assert Image.open(io.BytesIO(image)).size == (SIDE, SIDE)


def test_chips_in_blocks_and_alone_equal_chips_one_by_one(monkeypatch) -> None:
    world = tile()
    outlines = detections(*((x, y, x + 9, y + 5) for x in range(3, 390, 60) for y in range(2, 390, 70))).geometry
    singly = {
        index: next(draw_chips(world, outlines.iloc[[index]], world["p"])).image for index in range(len(outlines))
    }
    monkeypatch.setattr(chips, "_BLOCK", 128)
    assert {chip.position: chip.image for chip in draw_chips(world, outlines, world["p"])} == singly


def test_only_the_needed_windows_and_bands_are_read(monkeypatch) -> None:
    read: list[tuple[set[str], dict[str, int]]] = []
    original = xr.Dataset.compute

    def compute(self: xr.Dataset, **options: object) -> xr.Dataset:
        read.append((set(self.data_vars), dict(self.sizes)))
        return original(self, **options)

    monkeypatch.setattr(xr.Dataset, "compute", compute)
    world = tile().assign(slope=tile()["red"])
    list(draw_chips(world, detections((100, 100, 105, 105), (110, 100, 115, 105)).geometry, world["p"]))
    assert read == [({"red", "green", "blue", "quality_data_mask", "probabilities"}, {"y": 60, "x": 70})]
    read.clear()
    monkeypatch.setattr(chips, "_LARGE", 300)
    list(draw_chips(world, detections((0, 0, 399, 399)).geometry))
    assert read[0][1] == {"y": 200, "x": 200}, "798 pixels wide: every second one"


def test_the_directory_leads_to_each_chip_by_a_range_of_bytes(tmp_path) -> None:
    world, table = tile(), detections((100, 100, 105, 105), (300, 300, 390, 310))
    path = write_chips(tmp_path / "chips.zip", world, table, world["p"])
    with path.open("rb") as file:
        directory = read_directory(file)
    assert directory.keys() == {"11", "22"}
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for name, place in directory.items():
            image = content[place.offset : place.offset + place.length]
            assert image == archive.read(f"{name}.webp")
            assert image[:4] == b"RIFF"
            assert image[8:12] == b"WEBP"
    assert [directory[name].width_m for name in ("11", "22")] == [600, 1800]
    again = write_chips(tmp_path / "again.zip", world, table, world["p"])
    assert again.read_bytes() == content


def test_of_very_many_detections_the_largest_have_chips(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(chips, "MOST_CHIPS", 1)
    world, table = tile(), detections((100, 100, 105, 105), (300, 300, 310, 310))
    with write_chips(tmp_path / "chips.zip", world, table, world["p"]).open("rb") as file:
        assert read_directory(file).keys() == {"22"}


def test_a_scene_without_detections_has_an_empty_file(tmp_path) -> None:
    world = tile()
    with write_chips(tmp_path / "chips.zip", world, detections(), world["p"]).open("rb") as file:
        assert read_directory(file) == {}
