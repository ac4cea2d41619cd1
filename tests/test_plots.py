"""Pictures: values, colours and sizes."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from darts_assets.bands import FEATURES, TCVIS
from darts_assets.cubes import CHUNK
from darts_assets.model.sanity import percent_counts
from darts_assets.plots import (
    CHUNK_SIDE,
    COVERAGE_COLORS,
    DETECTION_COLOR,
    HATCH_COLOR,
    NO_DATA,
    captioned,
    chunk_picture,
    contact_sheet,
    coverage_map,
    histogram,
)
from darts_assets.stores.statistics import BandStatistics

SHAPE = (CHUNK, CHUNK)
PREVIEW_SHAPE = (60, 100)
FACTOR = CHUNK // CHUNK_SIDE


def is_colour(picture: Image.Image, name: str) -> np.ndarray:
    return (np.abs(np.asarray(picture) - np.multiply(to_rgb(COVERAGE_COLORS[name]), 255)) < 3).all(axis=2)


def terrain(relief: float) -> np.ndarray:
    """A valley from north to south."""
    return np.broadcast_to(relief * np.abs(np.linspace(-1, 1, CHUNK)), SHAPE).astype("float32")


@pytest.mark.parametrize("relief", [5, 1500])
def test_terrain_is_lit_from_the_north_west_whatever_its_relief(relief: float) -> None:
    picture = chunk_picture({"dem": terrain(relief)})
    assert picture.shape == (CHUNK_SIDE, CHUNK_SIDE, 3)
    assert picture.dtype == np.uint8
    assert (picture[..., 0] == picture[..., 1]).all()
    west, east = picture[:, 20, 0], picture[:, -21, 0]  # equally high
    assert (east.astype(int) - west > 60).all(), "what rises to the east faces west"
    assert picture.min() >= 40
    assert picture.max() <= 240


def test_flat_terrain_and_nothing_at_all_are_pictures_too() -> None:
    flat = chunk_picture({"dem": np.zeros(SHAPE, "float32")})
    assert len(np.unique(flat)) == 1
    assert not (flat == NO_DATA).all()
    assert (chunk_picture({"dem": np.full(SHAPE, np.nan, "float32")}) == NO_DATA).all()
    nothing = {name: np.zeros(SHAPE, "uint8") for name in TCVIS}
    assert (chunk_picture(nothing) == NO_DATA).all()


def test_holes_have_a_colour_of_their_own_and_do_not_shine_on_their_edges() -> None:
    dem = terrain(100).copy()
    dem[: CHUNK // 2, : CHUNK // 2] = np.nan
    dem[-FACTOR:, -FACTOR // 2 + 1 :] = np.nan  # less than half of one pixel of the picture
    picture = chunk_picture({"dem": dem})
    hole = (picture == NO_DATA).all(axis=2)
    expected = np.zeros((CHUNK_SIDE, CHUNK_SIDE), bool)
    expected[: CHUNK_SIDE // 2, : CHUNK_SIDE // 2] = True
    np.testing.assert_array_equal(hole, expected)
    whole = chunk_picture({"dem": terrain(100)})
    beside = picture[CHUNK_SIDE // 2 + 2 :, :, 0].astype(int)
    np.testing.assert_allclose(beside, whole[CHUNK_SIDE // 2 + 2 :, :, 0], atol=12)


def test_trends_are_red_green_and_blue() -> None:
    values = {name: np.full(SHAPE, 60 * i, "uint8") for i, name in enumerate(TCVIS, 1)}
    values["tc_brightness"] = values["tc_brightness"] + (np.arange(CHUNK, dtype="uint8") % 2)  # 60, 61, 60 ...
    for array in values.values():
        array[-FACTOR:] = 0
    picture = chunk_picture(values)
    assert (picture[:-1] == (60, 120, 180)).all()
    assert (picture[-1] == NO_DATA).all()


def cells(picture: Image.Image, name: str) -> int:
    """Number of separate squares of a colour, without the one of the legend."""
    return cv2.connectedComponents(is_colour(picture, name).astype("uint8"))[0] - 2


def test_a_coverage_map_shows_the_known_chunks_and_the_margin() -> None:
    states = {"filled": np.array([[100, 200], [100, 201]]), "empty": np.array([[101, 201]])}
    picture = coverage_map((1000, 1000), states | {"missing": np.array([[102, 199]])})
    assert picture.size == (300, 280)
    assert {name: cells(picture, name) for name in COVERAGE_COLORS} == {"filled": 2, "empty": 1, "missing": 1}
    (top, left), (bottom, right) = (
        np.argwhere(is_colour(picture, name)[:220]).mean(axis=0) for name in ("missing", "empty")
    )
    assert top > bottom
    assert left < right


def test_one_missing_chunk_among_many_is_visible() -> None:
    states = {"filled": np.argwhere(np.ones((600, 600))), "empty": np.empty((0, 2), int)}
    picture = coverage_map((4000, 4000), states | {"missing": np.array([[300, 300]])})
    assert cells(picture, "missing") == 1
    assert is_colour(picture, "missing")[:220].sum() >= 9
    nothing = dict.fromkeys(COVERAGE_COLORS, np.empty((0, 2), dtype=np.int64))
    assert cells(coverage_map((4000, 4000), nothing), "filled") == 0


def preview() -> dict[str, np.ndarray]:
    ramp = np.broadcast_to(np.linspace(0, 1, PREVIEW_SHAPE[1], dtype="float32"), PREVIEW_SHAPE).copy()
    bands = {name: (ramp * 0.2).copy() for name in FEATURES}
    bands |= {name: np.full(PREVIEW_SHAPE, 128, "uint8") for name in TCVIS}
    return bands | {"aspect": ramp * 360, "dem": ramp * 500, "quality_data_mask": np.full(PREVIEW_SHAPE, 2, "uint8")}


def panel(sheet, number: int) -> np.ndarray:
    """The picture of a panel: 128 wide, as flat as the scene."""
    row, column = divmod(number, 4)
    x, y = 8 + column * 136, 8 + row * 166
    return np.asarray(sheet)[y : y + int(128 * 0.6), x : x + 128]


def test_every_feature_has_a_panel_of_the_scenes_form() -> None:
    sheet = contact_sheet(preview())
    assert sheet.size == (552, 672)
    red = panel(sheet, 1)
    assert red[:, 1].max() < 10
    assert red[:, -2].min() > 240
    assert (np.asarray(sheet)[8 + round(128 * 0.6) + 1 : 8 + 127, 144:272] == 255).all(), "below it is paper"
    neutral = panel(sheet, 11)  # a trend of 128 is none
    assert (neutral >= 246).all()


def no_data(pixels: np.ndarray) -> np.ndarray:
    return (np.abs(pixels.astype(int) - NO_DATA) <= 1).all(axis=-1)  # the canvas rounds


def test_missing_data_is_marked() -> None:
    bands = preview()
    bands["slope"][:] = np.nan
    bands["red"][:, :50] = np.nan
    bands["tc_brightness"][:30] = 0
    sheet = contact_sheet(bands)
    assert no_data(panel(sheet, 7)).all()
    for number in (0, 1):  # true colours, red
        assert no_data(panel(sheet, number)[:, :60]).all()
        assert not no_data(panel(sheet, number)[:, 70:]).any()
    assert no_data(panel(sheet, 11)[:36]).all()


def test_without_elevation_and_quality_there_are_fewer_panels() -> None:
    bands = {name: values for name, values in preview().items() if name in FEATURES}
    assert (panel(contact_sheet(bands), 14) == 255).all()


def test_the_histogram_is_logarithmic_and_red_above_the_threshold() -> None:
    counts = percent_counts(BandStatistics(1111, 0, 1, counts={0: 1000, 50: 100, 51: 10, 100: 1, 255: 5}))
    assert counts.sum() == 1111
    picture = histogram(counts)
    assert picture.size == (365, 198)
    pixels = np.asarray(picture).astype(int)
    low, high = (
        cv2.connectedComponentsWithStats((np.abs(pixels - color) < 3).all(axis=2).astype("uint8"))[2][1:]
        for color in ((120, 134, 150), (226, 40, 130))
    )
    heights = sorted(int(bar[cv2.CC_STAT_HEIGHT]) for bar in [*low, *high])
    assert len(low) == len(high) == 2, "a bar for each percentage, even of one pixel"
    assert heights[3] - heights[2] == pytest.approx(heights[2] - heights[1], abs=2)
    assert heights[0] >= 2
    assert max(low[:, cv2.CC_STAT_LEFT]) < min(high[:, cv2.CC_STAT_LEFT])


def test_a_caption_keeps_the_pixels_of_the_thumbnail() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (310, 350, 3), dtype="uint8")
    picture = np.asarray(captioned(Image.fromarray(pixels), metres=20, objects=3))
    assert picture.shape == (354, 350, 3)
    np.testing.assert_array_equal(picture[:310], pixels)
    assert (picture[310:, :20] == DETECTION_COLOR).all(axis=2).any()
    assert (picture[332:, :20] == HATCH_COLOR).all(axis=2).any(), "narrow pictures have a second line"
    wide = np.asarray(captioned(Image.new("RGB", (512, 100)), metres=20, objects=2000))
    assert wide.shape == (122, 512, 3)
    assert (wide[100:] == HATCH_COLOR).all(axis=2).any()


def test_a_backend_of_jupyter_that_is_not_installed() -> None:
    code = "from darts_assets.plots import new_figure, render; print(render(new_figure(90, 60)).size)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MPLBACKEND": "module://absent.inline"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "(90, 60)\n", done.stderr
