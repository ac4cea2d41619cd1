import numpy as np
import pytest

from darts_assets.bands import (
    FEATURES,
    MASKS,
    OPTICAL,
    PERCENT,
    TCVIS,
    VISIBLE_NIR,
    Band,
    auxiliary_layers,
    band,
    stored_band,
)

REFLECTANCE = (
    "blue", "green", "red", "nir", "coastal", "rededge071", "rededge075", "rededge078", "nir08", "nir09", "swir16",
    "swir22",
)  # fmt: skip
SCALED = {
    # band                memory     stored   valid          scale        offset fill    clip
    **dict.fromkeys(REFLECTANCE, ("float32", "uint16", (-0.1, 0.5), 0.0001, -0.1, 0, False)),
    "ndvi":               ("float32", "int16", (-1, 1),       0.0001,      -1,   -1,     True),
    "relative_elevation": ("float32", "int16", (-50, 50),     1 / 300,     -50,  -1,     True),
    "slope":              ("float32", "int16", (0, 90),       0.01,        0,    -1,     True),
    "aspect":             ("float32", "int16", (0, 360),      0.1,         0,    -1,     False),
    "hillshade":          ("float32", "int16", (0, 1),        0.0001,      0,    -1,     True),
    "curvature":          ("float32", "int16", (-1, 1),       0.001,       0,    -32768, False),
    "dem":                ("float32", "int16", (-100, 3000),  0.1,         -100, -1,     True),
    "probabilities":      ("float32", "uint16", (0, 1),       0.0001,      -0.00005, 65535, True),
    "model_spread":       ("float32", "uint16", (0, 1),       0.0001,      0,    65535,  True),
}  # fmt: skip
PLAIN = {
    "tc_brightness": ("uint8", "uint8", (0, 255)), "tc_greenness": ("uint8", "uint8", (0, 255)),
    "tc_wetness": ("uint8", "uint8", (0, 255)), "arcticdem_data_mask": ("uint8", "bool", (0, 1)),
    "quality_data_mask": ("uint8", "uint8", (0, 2)), "s2_scl": ("uint8", "uint8", (0, 11)),
    "observations": ("uint16", "uint16", (0, 65535)), "planet_udm": ("uint8", "uint8", (0, 8)),
    "binarized_segmentation": ("bool", "bool", (0, 1)), "extent": ("bool", "bool", (0, 1)),
}  # fmt: skip


def codec(found: Band) -> tuple[object, ...]:
    return str(found.memory), str(found.stored), found.valid, found.scale, found.offset, found.fill, found.clip


@pytest.mark.parametrize("name", SCALED)
def test_stored_codec(name: str) -> None:
    *others, scale, offset, fill, clip = SCALED[name]
    assert codec(band(name)) == (*others, pytest.approx(scale, rel=1e-12), offset, fill, clip)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_codec(name: str) -> None:
    assert codec(band(name)) == (*PLAIN[name], None, 0, None, True)


def test_every_band_has_a_literal_codec() -> None:
    with pytest.raises(KeyError) as error:
        band("nothing")
    known = str(error.value).partition("known are ")[2].strip("\"'").split(", ")
    assert sorted(known) == sorted({*SCALED, *PLAIN})
    assert {*OPTICAL, *FEATURES, *MASKS} <= {*SCALED, *PLAIN}


@pytest.mark.parametrize("name", ["probabilities", "binarized_segmentation"])
def test_bands_of_a_model_share_a_codec(name: str) -> None:
    assert codec(band(f"{name}-RTS_v6")) == codec(band(name))
    assert band(f"{name}-RTS_v6").name == f"{name}-RTS_v6"


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("dem", -100, 0), ("dem", 0, 1000), ("dem", 3000, 31000), ("dem", 4000, 31000),
        ("curvature", 5, 5000), ("curvature", -5, -5000), ("curvature", 100, 32767), ("curvature", -100, -32767),
        ("blue", -0.1, 1), ("blue", -7, 1), ("blue", 6.5, 65535), ("blue", 1.2, 13000),
        ("ndvi", -1, 0), ("ndvi", -3, 0), ("ndvi", 1, 20000), ("ndvi", 3, 20000),
        ("relative_elevation", -80, 0), ("relative_elevation", 0, 15000), ("slope", 91, 9000), ("aspect", 359.9, 3599),
        ("probabilities", 0, 0), ("probabilities", 0.00401, 41), ("probabilities", 1.7, 10_000),
        ("probabilities", -1, 0),
        ("aspect", -1, -10), ("aspect", 0, 0), ("aspect", 360, 3600),
    ],
)  # fmt: skip
def test_stored_values(name: str, value: float, stored: int) -> None:
    assert band(name).encode(np.array([value], np.float32)).tolist() == [stored]


@pytest.mark.parametrize("name", SCALED)
def test_only_nan_is_stored_as_the_fill_value(name: str) -> None:
    found = band(name)
    limits = np.array([-np.inf, np.inf, *found.valid, found.offset, 0, -1e9, 1e9], np.float32)
    assert found.fill not in found.encode(limits)
    stored = found.encode(np.array([np.nan], np.float32))
    assert (stored.dtype, stored.tolist()) == (found.stored, [found.fill])
    assert np.isnan(found.decode(stored)).all()


def test_a_fill_value_at_the_upper_end_is_guarded_too() -> None:
    depth = Band("depth", np.dtype("float32"), np.dtype("uint16"), (0, 1), scale=0.1, fill=65535, clip=False)
    assert depth.encode(np.array([6553.5, 1e9, -1, np.nan], np.float32)).tolist() == [65534, 65534, 0, 65535]


@pytest.mark.parametrize("name", SCALED)
def test_stored_values_are_kept_to_half_a_unit(name: str) -> None:
    found = band(name)
    assert found.scale is not None
    values = np.linspace(*found.valid, 1001, dtype=np.float32)
    if found.fill == 0:  # the lowest value would be the fill
        values = values[1:]
    np.testing.assert_allclose(found.decode(found.encode(values)), values, atol=0.501 * found.scale, rtol=1e-6)


def test_a_threshold_selects_the_same_probabilities_before_and_after_storing() -> None:
    thresholds = np.array([number / 10_000 for number in range(10_001)], np.float32)
    next_to = [np.nextafter(thresholds, np.float32(side)) for side in (-1, 2)]
    values = np.concatenate([np.random.default_rng(1).random(200_000, np.float32), thresholds, *next_to])
    values = np.sort(np.clip(values, 0, 1))
    codec = band("probabilities")
    kept = codec.decode(codec.encode(values))
    assert kept.min() == 0
    assert np.abs(kept - values).max() <= 0.51e-4
    # Values are sorted: the same number above a threshold are the same values.
    np.testing.assert_array_equal(
        np.searchsorted(values, thresholds, side="right"), np.searchsorted(kept, thresholds, side="right")
    )
    # In whole percent, as in version 0.1.0, values above 0.5 were lost.
    percent = PERCENT.decode(PERCENT.encode(values))
    assert 0.004 < ((values > 0.5) & (percent <= 0.5)).mean() < 0.006


def test_probabilities_of_earlier_tiles_are_percent() -> None:
    for name in ("probabilities", "probabilities-RTS_v6"):
        old = stored_band(name, np.dtype("uint8"))
        assert old.name == name
        np.testing.assert_allclose(old.decode(np.array([0, 50, 100, 255], np.uint8)), [0, 0.5, 1, np.nan])
        assert stored_band(name, np.dtype("uint16")) == band(name)
    assert stored_band("s2_scl", np.dtype("uint8")) == band("s2_scl")


def test_values_of_a_model_span_the_valid_range() -> None:
    values = np.array([-0.2, -0.1, 0.2, 0.5, 3, np.nan], np.float32)
    np.testing.assert_allclose(band("red").to_model(values), [0, 0, 0.5, 1, 1, 0], atol=1e-6)


def test_layers_of_bands() -> None:
    assert auxiliary_layers(VISIBLE_NIR) == ()
    assert auxiliary_layers(["slope"]) == ("arcticdem",)
    assert auxiliary_layers([TCVIS[0], "dem"]) == ("arcticdem", "tcvis")
