"""Metadata files of an image: `*_metadata.json` (of the Data API) and `*_metadata.xml`."""

import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from pystac.utils import str_to_datetime

from darts_assets.errors import SceneError
from darts_assets.geo.antimeridian import footprint
from darts_assets.remote.byte_reader import S3Options, read_bytes, shown
from darts_assets.sources.planet.deliveries import Delivery


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image; None if no file has the value.

    Attributes:
        time: of the acquisition, UTC; from the id if no file has it.
        sun_azimuth: degrees clockwise from north.
        sun_elevation: degrees above the horizon.
        cloud_cover: percent.
        geometry: GeoJSON footprint in EPSG:4326.
        instrument: such as `PS2`, `PS2.SD`, `PSB.SD`.
        coefficients: band of the file (from 1) -> top-of-atmosphere reflectance of one digital number.
    """

    time: dt.datetime
    sun_azimuth: float | None = None
    sun_elevation: float | None = None
    cloud_cover: float | None = None
    geometry: Mapping[str, Any] | None = None
    instrument: str | None = None
    coefficients: Mapping[int, float] = field(default_factory=dict)


def read_metadata(delivery: Delivery, s3: S3Options) -> Metadata:
    """The metadata of a delivery; the JSON file has precedence over the XML file.

    Raises:
        SceneError: if a file is not Planet's metadata, or there are several of a kind.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    values: dict[str, Any] = {}
    if file := delivery.only("xml", "metadata"):
        values |= _from_xml(file.href, s3)
    if file := delivery.only("json", "metadata"):
        values |= _from_json(file.href, s3)
    return Metadata(**{"time": delivery.id.time, **{key: value for key, value in values.items() if value is not None}})


def _from_json(href: str, s3: S3Options) -> dict[str, Any]:
    try:
        item = json.loads(_content(href, s3))
        properties = item["properties"]
        # cloud_cover is a fraction; newer items have cloud_percent as well.
        cover = _number(properties.get("cloud_cover"))
        percent = _number(properties.get("cloud_percent"))
        return {
            "time": _time(properties.get("acquired")),
            "sun_azimuth": _number(properties.get("sun_azimuth")),
            "sun_elevation": _number(properties.get("sun_elevation")),
            "cloud_cover": round(100 * cover, 2) if cover is not None else percent,
            "geometry": _footprint(item.get("geometry")),
            "instrument": properties.get("instrument"),
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SceneError(
            f"{shown(href)} is not the metadata of a Planet image: an item with properties in JSON was expected "
            f"({type(error).__name__}: {error})"
        ) from None


def _from_xml(href: str, s3: S3Options) -> dict[str, Any]:
    try:
        root = ElementTree.fromstring(_content(href, s3))
        coefficients = {}
        for band in _all(root, "bandSpecificMetadata"):
            number, value = _text(band, "bandNumber"), _text(band, "reflectanceCoefficient")
            if number and value:
                coefficients[int(number)] = float(value)
        return {
            "time": _time(_text(root, "acquisitionDateTime")),
            "sun_azimuth": _number(_text(root, "illuminationAzimuthAngle")),
            "sun_elevation": _number(_text(root, "illuminationElevationAngle")),
            "geometry": _ring(_text(root, "coordinates")),
            "instrument": next((_text(each, "shortName") for each in _all(root, "Instrument")), None),
            "coefficients": coefficients,
        }
    except (ElementTree.ParseError, ValueError) as error:
        raise SceneError(f"{shown(href)} is not the metadata of a Planet image: XML was expected ({error})") from None


def _content(href: str, s3: S3Options) -> bytes:
    try:
        return read_bytes(href, s3)
    except FileNotFoundError:
        raise SceneError(f"{shown(href)}: the file does not exist any more") from None


def _all(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Descendants by their local names; namespaces differ between versions."""
    return (each for each in element.iter() if each.tag.rpartition("}")[2] == name)


def _text(element: ElementTree.Element, name: str) -> str | None:
    return next((each.text.strip() for each in _all(element, name) if each.text), None)


def _number(value: object) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    number = float(str(value))
    return number if math.isfinite(number) else None


def _time(text: object) -> dt.datetime | None:
    return str_to_datetime(str(text)).astimezone(dt.UTC) if text else None


def _ring(text: str | None) -> dict[str, Any] | None:
    """The polygon of `lon,lat lon,lat ...`."""
    if text is None:
        return None
    points = [[float(number) for number in point.split(",")[:2]] for point in text.split()]
    return _footprint({"type": "Polygon", "coordinates": [points]})


def _footprint(geometry: Any) -> dict[str, Any] | None:
    return geometry if isinstance(geometry, dict) and footprint(geometry) is not None else None
