"""Scale and offset of a scene's digital numbers, decided from all that its item says about them.

Reflectance is `DN * scale + offset`. ESA adds 1000 to Sentinel-2's digital numbers since processing baseline 04.00
(25 January 2022), so that reflectance may be negative: the offset of its files is -0.1 from then on, and 0 before
(https://sentiwiki.copernicus.eu/web/s2-products). Catalogs contradict that, and each other: CDSE declares -0.1 for
every baseline. Earth Search subtracts the 1000 when it makes its GeoTIFFs, but keeps the declared offset and sets
`earthsearch:boa_offset_applied`, which is false for a part of the converted files (Element84/earth-search issues 9, 66
and 71). The README of `sources` has the order of evidence.
"""

import datetime as dt
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pystac.utils import str_to_datetime

from darts_assets.errors import SceneError

SENTINEL2_SCALE = 1e-4

OffsetChoice = Literal["auto", "0", "-0.1"]
"""Config of the offset: by the evidence, or a value."""

_ADDED = -0.1
"""Offset of files to whose digital numbers ESA added 1000."""

_OFFSET_SINCE = dt.datetime(2022, 1, 25, tzinfo=dt.UTC)
"""Introduction of baseline 04.00; products of that day exist with and without the offset."""

_PRODUCT = re.compile(r"_MSIL2A_\d{8}T\d{6}(?:_N(\d{4}))?(?:_R\d{3})?_T\w{5}_(\d{8}T\d{6})")
_BASELINE_IN_NAME = re.compile(r"_N(\d{2})(\d{2})(?=_)")
_VERSION = re.compile(r"N?(\d{1,2})\.(\d{1,2})|N?(\d{2})(\d{2})")
_NAMES = ("s2:product_uri", "sentinel:product_id")
_VERSIONS = ("processing:version", "s2:processing_baseline", "sentinel:processing_baseline")
_FLAGS = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")


@dataclass(frozen=True, slots=True)
class Offset:
    """The offset of a band.

    Attributes:
        value: reflectance of digital number 0; None if the evidence does not decide.
        evidence: what decided, or why nothing does.
        contradicted: evidence for another value, "" if there is none.
    """

    value: float | None
    evidence: str
    contradicted: str = ""

    @property
    def decision(self) -> str:
        """The value and its evidence, for people."""
        return f"undecided: {self.evidence}" if self.value is None else f"{self.value:g}, by {self.evidence}"


@dataclass(frozen=True, slots=True)
class _Claim:
    """A source of evidence, and the offset of ESA's files according to it."""

    origin: str
    offset: float


def processing_baseline(item: Mapping[str, Any]) -> str | None:
    """Processing baseline of a Sentinel-2 item, such as `05.10`; None if the item does not contain it.

    The id decides, then the product name in the properties, then the version in the properties. Baselines from 90.00 on
    mark products that users have made themselves, and are unknown.
    """
    return next((version for _, version in _baselines(item)), None)


def baseline_offset(baseline: str) -> float:
    """Reflectance of digital number 0 in ESA's files of a processing baseline."""
    return _ADDED if baseline >= "04" else 0.0


def decide_offset(
    item: Mapping[str, Any], declared_offset: float | None, *, is_original: bool, is_sentinel2: bool = True
) -> Offset:
    """The offset of a band of a Sentinel-2 item.

    Args:
        item: the item; its id and properties are evidence.
        declared_offset: offset that the item declares for the band, if any.
        is_original: whether the file is ESA's JPEG 2000, which no provider has changed.
        is_sentinel2: whether dates are evidence.
    """
    claims = list(_claims(item, dates=is_sentinel2))
    decisive = claims[0] if claims else None
    others = [f"{claim.origin} ({claim.offset:g})" for claim in claims[1:] if claim.offset != claims[0].offset]
    flag = next((key for key in _FLAGS if item["properties"].get(key) is not None), None)
    if decisive is not None and (decisive.offset == 0 or is_original):
        if declared_offset not in (None, decisive.offset):
            others.append(f"the offset in the item ({declared_offset:g})")
        return Offset(decisive.offset, decisive.origin, ", ".join(others))
    if flag is not None and not is_original:
        if item["properties"][flag] is True:
            return Offset(0.0, flag, ", ".join(others))
        known = f"{decisive.origin} has {decisive.offset:g} in ESA's files" if decisive else "no baseline or date"
        return Offset(
            None, f"{known}; {flag} is {item['properties'][flag]}, also for scenes from which the offset was taken off"
        )
    if declared_offset is not None and (decisive is None or declared_offset != decisive.offset):
        return Offset(declared_offset, "the offset in the item", ", ".join(others))
    if decisive is not None:
        return Offset(decisive.offset, decisive.origin, ", ".join(others))
    return Offset(None, "no processing baseline, no date that decides, and no raster:offset")


def declared(asset: Mapping[str, Any], index: int, field: str) -> float | None:
    """`scale`, `offset` or `nodata` of one band of an asset, None if the item does not declare it.

    Fields of the asset have precedence over `raster:bands`, and those over `bands`.

    Raises:
        SceneError: if the value is not a finite number.
    """
    holders: list[Mapping[str, Any]] = [asset]
    for key in ("raster:bands", "bands"):
        bands = asset.get(key) or ()
        if len(bands) >= index:
            holders.append(bands[index - 1])
    for holder in holders:
        value = holder.get(f"raster:{field}", holder.get(field))
        if value is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise SceneError(f"its {field} is {value!r}, a number was expected")
            return float(value)
    return None


def _claims(item: Mapping[str, Any], *, dates: bool) -> Iterator[_Claim]:
    for origin, version in _baselines(item):
        yield _Claim(f"processing baseline {version} ({origin})", baseline_offset(version))
    if not dates:
        return
    properties = item["properties"]
    names = [match[2] for name in _product_names(item) if (match := _PRODUCT.search(name))]
    made = [*names, *(properties.get(key) for key in ("s2:generation_time", "processing:datetime"))]
    if (time := next(filter(None, map(_time, made)), None)) is not None and time < _OFFSET_SINCE:
        yield _Claim(f"the time of production, {time:%Y-%m-%d}", 0.0)
    sensed = _time(properties.get("datetime") or properties.get("start_datetime"))
    if sensed is not None and sensed >= _OFFSET_SINCE + dt.timedelta(days=1):
        yield _Claim(f"the sensing time, {sensed:%Y-%m-%d}", _ADDED)


def _baselines(item: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Origin and processing baseline, in the order of their precedence; unknown ones are left out."""
    properties = item["properties"]
    origins = [("id", item["id"]), *((key, properties.get(key)) for key in _NAMES)]
    for origin, name in origins:
        if (match := _BASELINE_IN_NAME.search(str(name))) and match[1] < "90":
            yield origin, f"{match[1]}.{match[2]}"
    for key in _VERSIONS:
        if match := _VERSION.fullmatch(str(properties.get(key)).strip()):
            major, minor = match[1] or match[3], match[2] or match[4]
            if int(major) < 90:
                yield key, f"{int(major):02d}.{minor}"


def _product_names(item: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in (item["id"], *(item["properties"].get(key) for key in _NAMES))]


def _time(value: object) -> dt.datetime | None:
    try:
        time = str_to_datetime(str(value)) if value else None
    except (ValueError, OverflowError):
        return None
    return time and (time if time.tzinfo else time.replace(tzinfo=dt.UTC))  # times in product names have no zone
