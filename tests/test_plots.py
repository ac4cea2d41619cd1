"""The pictures that people see: values, colours and sizes."""

import numpy as np
import pytest

from darts_assets.bands import TCVIS
from darts_assets.cubes import CHUNK, arcticdem_spec, tcvis_spec
from darts_assets.cubes.picture import COVERAGE_COLOURS, HOLE, SIDE, chunk_picture, coverage_picture

SHAPE = (CHUNK, CHUNK)
FACTOR = CHUNK // SIDE


def is_colour(picture: np.ndarray, name: str) -> np.ndarray:
    return (picture == COVERAGE_COLOURS[name]).all(axis=2)


def terrain(relief: float) -> np.ndarray:
    """A valley from north to south."""
    return np.broadcast_to(relief * np.abs(np.linspace(-1, 1, CHUNK)), SHAPE).astype("float32")


@pytest.mark.parametrize("relief", [5, 1500])
def test_terrain_is_lit_from_the_north_west_whatever_its_relief(relief: float) -> None:
    picture = chunk_picture(arcticdem_spec(10), {"dem": terrain(relief)})
    assert picture.shape == (SIDE, SIDE, 3)
    assert picture.dtype == np.uint8
    assert (picture[..., 0] == picture[..., 1]).all()
    west, east = picture[:, 20, 0], picture[:, -21, 0]  # equally high
    assert (east.astype(int) - west > 60).all(), "what rises to the east faces west"
    assert picture.min() >= 40
    assert picture.max() <= 240


def test_flat_terrain_and_nothing_at_all_are_pictures_too() -> None:
    spec = arcticdem_spec(10)
    flat = chunk_picture(spec, {"dem": np.zeros(SHAPE, "float32")})
    assert len(np.unique(flat)) == 1
    assert not (flat == HOLE).all()
    assert (chunk_picture(spec, {"dem": np.full(SHAPE, np.nan, "float32")}) == HOLE).all()
    nothing = {name: np.zeros(SHAPE, "uint8") for name in TCVIS}
    assert (chunk_picture(tcvis_spec(2024), nothing) == HOLE).all()


def test_holes_have_a_colour_of_their_own_and_do_not_shine_on_their_edges() -> None:
    dem = terrain(100).copy()
    dem[: CHUNK // 2, : CHUNK // 2] = np.nan
    dem[-FACTOR:, -FACTOR // 2 + 1 :] = np.nan  # less than half of one pixel of the picture
    picture = chunk_picture(arcticdem_spec(10), {"dem": dem})
    hole = (picture == HOLE).all(axis=2)
    expected = np.zeros((SIDE, SIDE), bool)
    expected[: SIDE // 2, : SIDE // 2] = True
    np.testing.assert_array_equal(hole, expected)
    whole = chunk_picture(arcticdem_spec(10), {"dem": terrain(100)})
    beside = picture[SIDE // 2 + 2 :, :, 0].astype(int)
    np.testing.assert_allclose(beside, whole[SIDE // 2 + 2 :, :, 0], atol=12)


def test_trends_are_red_green_and_blue() -> None:
    values = {name: np.full(SHAPE, 60 * i, "uint8") for i, name in enumerate(TCVIS, 1)}
    values["tc_brightness"] = values["tc_brightness"] + (np.arange(CHUNK, dtype="uint8") % 2)  # 60, 61, 60 ...
    for array in values.values():
        array[-FACTOR:] = 0
    picture = chunk_picture(tcvis_spec(2024), values)
    assert (picture[:-1] == (60, 120, 180)).all()
    assert (picture[-1] == HOLE).all()


def test_a_coverage_map_shows_what_is_known_and_a_margin() -> None:
    grid = arcticdem_spec(10).grid
    data, empty, missing = np.array([[100, 200], [100, 201]]), np.array([[101, 201]]), np.array([[102, 199]])
    picture = coverage_picture(grid, data, empty, missing)
    square = picture.shape[0] // 5
    assert picture.shape == (5 * square, 5 * square, 3), "three rows and columns, and one on each side"
    middle = picture[square // 2 :: square, square // 2 :: square]
    for name, cells in {"filled": [(1, 2), (1, 3)], "empty": [(2, 3)], "missing": [(3, 1)]}.items():
        assert {(int(r), int(c)) for r, c in np.argwhere(is_colour(middle, name))} == set(cells)
    assert is_colour(middle, "never asked for").sum() == 25 - 4


def test_the_map_stays_within_the_cube_and_256_pixels() -> None:
    grid = arcticdem_spec(2).grid
    last = np.array(grid.shape) - 1
    nothing = np.empty((0, 2), dtype=np.int64)
    picture = coverage_picture(grid, np.array([[0, 0], last]), nothing, nothing)
    assert max(picture.shape) <= 256
    assert is_colour(picture, "filled").sum() == 2
    assert is_colour(picture, "filled")[0, 0]
    crowded = np.argwhere(np.ones((600, 600)))
    lost = coverage_picture(grid, crowded, nothing, np.array([[300, 300]]))
    assert max(lost.shape) <= 256
    assert is_colour(lost, "missing").sum() == 1, "one missing chunk among many is seen"
    assert coverage_picture(grid, nothing, nothing, nothing).shape == (1, 1, 3)
