"""The sheet of all features."""

import numpy as np

from darts_assets.bands import FEATURES, TCVIS
from darts_assets.features.contact_sheet import NOTHING, contact_sheet

SHAPE = (60, 100)


def preview() -> dict[str, np.ndarray]:
    ramp = np.broadcast_to(np.linspace(0, 1, SHAPE[1], dtype="float32"), SHAPE).copy()
    bands = {name: (ramp * 0.2).copy() for name in FEATURES}
    bands |= {name: np.full(SHAPE, 128, "uint8") for name in TCVIS}
    return bands | {"aspect": ramp * 360, "dem": ramp * 500, "quality_data_mask": np.full(SHAPE, 2, "uint8")}


def panel(sheet, number: int) -> np.ndarray:
    """The picture of a panel: 128 wide, as flat as the scene."""
    row, column = divmod(number, 4)
    x, y = 8 + column * 136, 8 + row * 166
    return np.asarray(sheet)[y : y + round(128 * 0.6), x : x + 128]


def test_every_feature_has_a_panel_of_the_scenes_form() -> None:
    sheet = contact_sheet(preview())
    assert sheet.size == (552, 672)
    red = panel(sheet, 1)
    assert red[:, 1].max() < 10
    assert red[:, -2].min() > 240
    assert (np.asarray(sheet)[8 + round(128 * 0.6) + 1 : 8 + 127, 144:272] == 255).all(), "below it is paper"
    neutral = panel(sheet, 11)  # a trend of 128 is none
    assert (neutral == 246).all()


def test_where_there_is_nothing_is_marked() -> None:
    bands = preview()
    bands["slope"][:] = np.nan
    bands["red"][:, :50] = np.nan
    bands["tc_brightness"][:30] = 0
    sheet = contact_sheet(bands)
    assert (panel(sheet, 7) == NOTHING).all()
    for number in (0, 1):  # true colours, red
        assert (panel(sheet, number)[:, :60] == NOTHING).all()
        assert not (panel(sheet, number)[:, 70:] == NOTHING).all(axis=-1).any()
    assert (panel(sheet, 11)[:36] == NOTHING).all()


def test_without_elevation_and_quality_there_are_fewer_panels() -> None:
    bands = {name: values for name, values in preview().items() if name in FEATURES}
    assert (panel(contact_sheet(bands), 14) == 255).all()
