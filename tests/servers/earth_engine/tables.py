# ruff: noqa: A002, A006 -- arguments have the names that they have in Earth Engine
"""Tables of the local Earth Engine: elements with properties, filters, and functions that are mapped over them."""

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import shapely
from shapely.affinity import translate
from shapely.geometry import mapping, shape


class Element(Protocol):
    """What a collection holds: images and features."""

    properties: Mapping[str, Any]
    geometry: Mapping[str, Any] | None


Filter = Callable[[Element], bool]


@dataclass(frozen=True)
class Feature:
    properties: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] | None = None


class Table:
    """A collection whose elements a function makes of another one's, when they are asked for."""

    def __init__(self, collection: Sequence[Element], baseAlgorithm: Callable[[Element], Element]) -> None:
        self.collection = collection
        self._algorithm = baseAlgorithm

    def element(self, number: int) -> Element:
        return self._algorithm(self.collection[number])


def feature_of(element: Element) -> dict[str, Any]:
    """GeoJSON of an element: what is null is not shown, and neither are the system's properties."""
    properties = {key: value for key, value in element.properties.items() if value is not None and ":" not in key}
    geometry = None if element.geometry is None else dict(element.geometry)
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def geometry(kind: str, coordinates: Any, geodesic: bool = True) -> dict[str, Any]:
    """A geometry; those with great circles as edges are not for this server."""
    if geodesic:
        raise ValueError("this server knows planar edges")
    return mapping(shape({"type": kind, "coordinates": coordinates}))


def _copied(destination: Element, source: Element, properties: list[str]) -> Feature:
    copied = {name: source.properties[name] for name in properties if name in source.properties}
    return Feature({**destination.properties, **copied}, destination.geometry)


def _set(object: Element, properties: Mapping[str, Any]) -> Feature:
    return Feature({**object.properties, **properties}, object.geometry)


def _compared(passes: Callable[[Any, Any], bool]) -> Callable[..., Filter]:
    """A filter by a comparison; what an element lacks compares with nothing."""

    def make(leftField: str, rightValue: Any) -> Filter:
        def keeps(element: Element) -> bool:
            value = element.properties.get(leftField)
            return value is not None and passes(value, rightValue)

        return keeps

    return make


def _contained(leftValue: list[Any], rightField: str) -> Filter:
    wanted = set(leftValue)
    return lambda element: element.properties.get(rightField) in wanted


def _during(leftValue: tuple[float, float], rightField: str) -> Filter:
    start, end = leftValue
    return lambda element: start <= element.properties.get(rightField, float("nan")) < end


def _milliseconds(time: str) -> float:
    return dt.datetime.fromisoformat(time).replace(tzinfo=dt.UTC).timestamp() * 1000


def _intersects(leftField: str, rightValue: Element) -> Filter:
    if leftField != ".all":
        raise ValueError(f"{leftField} is not a geometry")
    area = shape(rightValue.geometry)
    shapely.prepare(area)

    def keeps(element: Element) -> bool:
        outline = _whole(element.geometry)
        return any(area.intersects(translate(outline, turn)) for turn in (-360, 0, 360))

    return keeps


def _whole(footprint: Mapping[str, Any]) -> shapely.Polygon:
    """What a footprint encloses, in one piece: longitudes go on past 180."""
    ring = footprint["coordinates"] if footprint["type"] == "LinearRing" else footprint["coordinates"][0]
    east = any(lon > 90 for lon, _ in ring)
    return shapely.Polygon([(lon + 360 if east and lon < -90 else lon, lat) for lon, lat in ring])


ALGORITHMS: dict[str, Callable[..., Any]] = {
    "Filter.and": lambda filters: lambda element: all(one(element) for one in filters),
    "Filter.or": lambda filters: lambda element: any(one(element) for one in filters),
    "Filter.not": lambda filter: lambda element: not filter(element),
    "Filter.equals": _compared(lambda left, right: left == right),
    "Filter.greaterThan": _compared(lambda left, right: left > right),
    "Filter.lessThan": _compared(lambda left, right: left < right),
    "Filter.notNull": lambda properties: (
        lambda element: all(element.properties.get(name) is not None for name in properties)
    ),
    "Filter.listContains": _contained,
    "Filter.dateRangeContains": _during,
    "Filter.intersects": _intersects,
    "DateRange": lambda start, end: (_milliseconds(start), _milliseconds(end)),
    "GeometryConstructors.Polygon": lambda **given: geometry("Polygon", **given),
    "GeometryConstructors.MultiPolygon": lambda **given: geometry("MultiPolygon", **given),
    "Feature": lambda geometry=None, metadata=None: Feature(metadata or {}, geometry),
    "Element.copyProperties": _copied,
    "Element.get": lambda object, property: object.properties.get(property),
    "Element.set": lambda object, key, value: _set(object, {key: value}),
    "Element.setMulti": _set,
    "String.encodeJSON": lambda object: json.dumps(object),
}
"""Algorithms by Earth Engine's names."""
