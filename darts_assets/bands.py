"""Band names, and the table of all codecs.

A codec has three representations. *Memory*: physical values (float32, NaN without data). *Stored*: scaled integers with
a fill value, following the CF conventions (`value = stored * scale + offset`). *Model*: `(value - low) / (high - low)`
of the valid range, clipped to [0, 1], NaN as 0.

Probabilities are stored in steps of 0.0001, such that a threshold of up to four decimals selects the same pixels before
and after storing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

AuxiliaryLayer = Literal["arcticdem", "tcvis"]
AUXILIARY_LAYERS: tuple[AuxiliaryLayer, ...] = get_args(AuxiliaryLayer)

VISIBLE_NIR = ("blue", "green", "red", "nir")
"""Optical bands required in every scene."""

OPTICAL = (*VISIBLE_NIR, "coastal", "rededge071", "rededge075", "rededge078", "nir08", "nir09", "swir16", "swir22")
"""All optical bands, in storage order."""

SCL = "s2_scl"
OBSERVATIONS = "observations"
UDM = "planet_udm"
MASKS = (SCL, OBSERVATIONS, UDM)
"""Bands of classes or counts instead of reflectance."""

SPREAD = "model_spread"
"""Standard deviation (population) of the probabilities of a pixel between the models of an ensemble."""

TERRAIN = ("relative_elevation", "slope", "aspect", "hillshade", "curvature")
TCVIS = ("tc_brightness", "tc_greenness", "tc_wetness")

FEATURES = ("red", "green", "blue", "nir", "ndvi", *TERRAIN, *TCVIS)
"""The 13 features, in the order of the channels of a model."""


class Flag(NamedTuple):
    """A class of a mask.

    Attributes:
        value: in the pixels.
        meaning: a word, as in the CF attribute `flag_meanings`.
        color: `#rrggbb`, in colour tables and styles.
    """

    value: int
    meaning: str
    color: str


@dataclass(frozen=True, slots=True)
class Band:
    """The codec of a band.

    Attributes:
        name: canonical name.
        memory: dtype of physical values.
        stored: dtype in stores.
        valid: lowest and highest physical value; the model representation spans this range.
        scale: physical value of one stored unit; None if stored and physical values are equal.
        offset: physical value of stored 0.
        fill: stored value of NaN; None for bands without NaN.
        clip: whether storing clips to `valid`; otherwise to the range of the stored dtype without `fill`.
        upwards: whether storing rounds up, and reading returns the middle of a step. Then stored values of a positive
            range exceed any multiple of `scale` exactly where the values before storing do.
        long_name: title for people.
        units: UDUNITS unit of physical values; "1" for ratios, "" for classes.
        standard_name: from the CF standard name table (version 93), if it has the quantity.
        flags: classes of a mask.
    """

    name: str
    memory: np.dtype[Any]
    stored: np.dtype[Any]
    valid: tuple[float, float]
    scale: float | None = None
    offset: float = 0.0
    fill: int | None = None
    clip: bool = True
    upwards: bool = False
    long_name: str = ""
    units: str = ""
    standard_name: str = ""
    flags: tuple[Flag, ...] = ()

    def encode(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Stored values of physical ones (any shape): scaled, rounded (`upwards`), clipped, NaN as `fill`."""
        if self.scale is None:
            return values.astype(self.stored, copy=False)
        assert self.fill is not None
        if self.upwards:
            return self._encode_upwards(np.asarray(values, dtype=np.float32))
        low, high = self._stored_limits()
        scaled = np.asarray(values, dtype=np.float32) - np.float32(self.offset)
        scaled /= np.float32(self.scale)
        np.rint(scaled, out=scaled)
        np.clip(scaled, low, high, out=scaled)
        np.copyto(scaled, self.fill, where=np.isnan(scaled))
        return scaled.astype(self.stored)

    def decode(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Physical values, in the memory dtype, of stored ones (any shape); `fill` becomes NaN."""
        if self.scale is None:
            return stored.astype(self.memory, copy=False)
        values = stored.astype(np.float32)
        values *= np.float32(self.scale)
        values += np.float32(self.offset)
        if self.upwards:
            np.maximum(values, np.float32(self.valid[0]), out=values)
        np.copyto(values, np.nan, where=stored == self.fill)
        return values

    def to_model(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Model representation of physical values (any shape): float32 in [0, 1], NaN as 0."""
        low, high = self.valid
        scaled = values.astype(np.float32)
        scaled -= np.float32(low)
        scaled /= np.float32(high - low)
        np.clip(scaled, 0, 1, out=scaled)
        return np.nan_to_num(scaled, copy=False, nan=0.0)

    def description(self) -> dict[str, Any]:
        """The CF attributes `long_name`, `standard_name`, `units`, `flag_values`, `flag_meanings`, where they apply."""
        attributes: dict[str, Any] = {
            "long_name": self.long_name, "standard_name": self.standard_name, "units": self.units,
            "flag_values": [flag.value for flag in self.flags],
            "flag_meanings": " ".join(flag.meaning for flag in self.flags),
        }  # fmt: skip
        return {name: value for name, value in attributes.items() if value}

    def cf_attributes(self) -> dict[str, Any]:
        """Attributes with which CF-aware readers decode and describe the stored band."""
        attributes = self.description()
        if self.scale is not None:
            attributes |= {"scale_factor": self.scale, "add_offset": float(self.offset), "_FillValue": self.fill}
        return attributes

    def _encode_upwards(self, values: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        assert self.scale is not None
        assert self.fill is not None
        last = round(self.valid[1] / self.scale)
        above = (np.arange(-1, last) * self.scale).astype(np.float32)  # which the values of a step exceed
        clipped = np.clip(np.nan_to_num(values, nan=0.0), 0, np.float32(self.valid[1]))
        steps = np.minimum(np.ceil(clipped / np.float32(self.scale)), last).astype(np.int32)
        # The quotient is rounded: correct the values next to a multiple of the scale.
        steps -= clipped <= above[steps]
        steps += (steps < last) & (clipped > above[np.minimum(steps + 1, last)])
        np.copyto(steps, self.fill, where=np.isnan(values))
        return steps.astype(self.stored)

    def _stored_limits(self) -> tuple[float, float]:
        if self.clip and self.scale is not None:
            low, high = ((v - self.offset) / self.scale for v in self.valid)
            return round(low), round(high)
        info = np.iinfo(self.stored)
        # The fill is one end of the integer range and must not encode data.
        return info.min + (self.fill == info.min), info.max - (self.fill == info.max)


def _scaled(
    name: str, stored: str, valid: tuple[float, float], scale: float, offset: float, fill: int, **more: Any
) -> Band:
    return Band(name, np.dtype("float32"), np.dtype(stored), valid, scale, offset, fill, **more)


def _plain(
    name: str, memory: str, stored: str, valid: tuple[float, float], long_name: str, *flags: Flag, **more: Any
) -> Band:
    return Band(name, np.dtype(memory), np.dtype(stored), valid, long_name=long_name, flags=flags, **more)


SURFACE_REFLECTANCE = "surface_bidirectional_reflectance"
TOA_REFLECTANCE = "toa_bidirectional_reflectance"
"""Standard names of reflectance at the surface and at the top of the atmosphere."""

_QUALITY = "quality_flag"
_NOTHING, _SLUMP, _VALID = "#f2f2f2", "#d7301f", "#1b9e77"

_TABLE: dict[str, Band] = {
    b.name: b
    for b in (
        *(
            _scaled(
                name, "uint16", (-0.1, 0.5), 1e-4, -0.1, 0, clip=False, long_name=f"{name} reflectance", units="1",
                standard_name=SURFACE_REFLECTANCE,
            )
            for name in OPTICAL
        ),
        _scaled(
            "ndvi", "int16", (-1, 1), 1e-4, -1, -1, long_name="Normalized difference vegetation index", units="1",
            standard_name="normalized_difference_vegetation_index",
        ),
        _scaled(
            "relative_elevation", "int16", (-50, 50), 100 / 30000, -50, -1,
            long_name="Topographic position index", units="m",
        ),
        _scaled(
            "slope", "int16", (0, 90), 0.01, 0, -1, long_name="Slope", units="degree",
            standard_name="ground_slope_angle",
        ),
        # Not clipped: -1 is flat ground in the convention `physical`, stored as -10; stored -1 is NaN. Without the
        # standard name `ground_slope_direction`, since two of the conventions do not count from north.
        _scaled("aspect", "int16", (0, 360), 0.1, 0, -1, clip=False, long_name="Aspect", units="degree"),
        _scaled("hillshade", "int16", (0, 1), 1e-4, 0, -1, long_name="Hillshade", units="1"),
        _scaled("curvature", "int16", (-1, 1), 1e-3, 0, -32768, clip=False, long_name="Curvature", units="0.01 m-1"),
        _scaled(
            "dem", "int16", (-100, 3000), 0.1, -100, -1, long_name="Elevation", units="m",
            standard_name="height_above_reference_ellipsoid",
        ),
        *(
            _plain(name, "uint8", "uint8", (0, 255), f"Trend of tasselled cap {name[3:]}, 2000 on", units="1")
            for name in TCVIS
        ),
        _plain(
            "arcticdem_data_mask", "uint8", "bool", (0, 1), "ArcticDEM data mask",
            Flag(0, "no_data", _NOTHING), Flag(1, "data", _VALID), standard_name=_QUALITY,
        ),
        _plain(
            "quality_data_mask", "uint8", "uint8", (0, 2), "Quality: 0 invalid, 1 low, 2 high",
            Flag(0, "invalid", "#d73027"), Flag(1, "low_quality", "#fee08b"), Flag(2, "high_quality", "#1a9850"),
            standard_name=_QUALITY,
        ),
        # The colours are those of ESA's documentation of Level-2A.
        _plain(
            "s2_scl", "uint8", "uint8", (0, 11), "Sentinel-2 scene classification",
            Flag(0, "no_data", "#000000"), Flag(1, "saturated_or_defective", "#ff0000"),
            Flag(2, "dark_area", "#2f2f2f"), Flag(3, "cloud_shadow", "#643200"), Flag(4, "vegetation", "#00a000"),
            Flag(5, "not_vegetated", "#ffe65a"), Flag(6, "water", "#0000ff"), Flag(7, "unclassified", "#808080"),
            Flag(8, "cloud_medium_probability", "#c0c0c0"), Flag(9, "cloud_high_probability", "#ffffff"),
            Flag(10, "thin_cirrus", "#64c8ff"), Flag(11, "snow_or_ice", "#ff96ff"), standard_name="status_flag",
        ),
        _plain(
            "observations", "uint16", "uint16", (0, 65535), "Valid observations in a mosaic", units="1",
            standard_name="number_of_observations",
        ),
        _plain(
            "planet_udm", "uint8", "uint8", (0, 8), "PlanetScope usable data mask",
            Flag(0, "not_flagged", _NOTHING), Flag(1, "clear", "#1a9850"), Flag(2, "snow", "#ff96ff"),
            Flag(3, "shadow", "#643200"), Flag(4, "light_haze", "#fee08b"), Flag(5, "heavy_haze", "#fdae61"),
            Flag(6, "cloud", "#c0c0c0"), Flag(8, "no_data", "#000000"), standard_name=_QUALITY,
        ),
        _scaled(
            "probabilities", "uint16", (0, 1), 1e-4, -0.5e-4, 65535, upwards=True,
            long_name="Probability of a thaw slump", units="1",
        ),
        _scaled(
            SPREAD, "uint16", (0, 1), 1e-4, 0, 65535,
            long_name="Standard deviation of the probabilities between the models", units="1",
        ),
        _plain(
            "binarized_segmentation", "bool", "bool", (0, 1), "Thaw slump",
            Flag(0, "no_thaw_slump", _NOTHING), Flag(1, "thaw_slump", _SLUMP),
        ),
        _plain(
            "extent", "bool", "bool", (0, 1), "Valid area",
            Flag(0, "not_seen", _NOTHING), Flag(1, "valid_area", _VALID),
        ),
    )
}  # fmt: skip


PERCENT = _scaled("probabilities", "uint8", (0, 1), 0.01, 0, 255, long_name="Probability of a thaw slump", units="1")
"""The codec of probabilities in products, and in tiles of version 0.1.0: whole percent, to nearest."""


def stored_band(name: str, dtype: np.dtype[Any]) -> Band:
    """The codec of a band in a tile that stores it as `dtype`; raises KeyError for an unknown name."""
    codec = band(name)
    is_percent = name.partition("-")[0] == PERCENT.name and dtype == PERCENT.stored
    return replace(PERCENT, name=name, long_name=codec.long_name) if is_percent else codec


def band(name: str) -> Band:
    """The codec of a band by its canonical name, including `probabilities-NAME` and `binarized_segmentation-NAME`.

    Raises:
        KeyError: for an unknown name.
    """
    if name in _TABLE:
        return _TABLE[name]
    base, _, model = name.partition("-")
    if model and base in ("probabilities", "binarized_segmentation"):
        return replace(_TABLE[base], name=name, long_name=f"{_TABLE[base].long_name}, model {model}")
    raise KeyError(f"unknown band {name!r}; known are {', '.join(_TABLE)}")


def auxiliary_layers(bands: Iterable[str]) -> tuple[AuxiliaryLayer, ...]:
    """The auxiliary layers from which `bands` are computed, in the order of `AUXILIARY_LAYERS`."""
    requested = set(bands)
    needs: dict[AuxiliaryLayer, set[str]] = {
        "arcticdem": {*TERRAIN, "dem", "arcticdem_data_mask"},
        "tcvis": set(TCVIS),
    }
    return tuple(layer for layer in AUXILIARY_LAYERS if requested & needs[layer])
