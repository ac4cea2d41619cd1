# ruff: noqa: A002 -- arguments have the names that they have in Earth Engine
"""Images of the local Earth Engine: values and masks of bands as functions of coordinates."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from pyproj import Transformer

Layers = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""Values and masks by the names of bands; may compute them when they are looked up."""


@dataclass(frozen=True)
class Points:
    """Pixel centres, both coordinates (rows, columns)."""

    x: np.ndarray
    y: np.ndarray
    crs: str

    def to(self, crs: str) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates in another CRS."""
        if crs == self.crs:
            return self.x, self.y
        return Transformer.from_crs(self.crs, crs, always_xy=True).transform(self.x, self.y)


@dataclass(frozen=True)
class Image:
    """Bands in an order.

    Attributes:
        bands: their names.
        dtype: of all bands, or by band.
        pixels: gives values and masks at coordinates.
        footprint: function of points, True inside the image.
        crs: of these coordinates; None for functions of `Points`.
        properties: metadata; `system:index` is the last part of the image's id.
        geometry: footprint as Earth Engine would show it.
        grids: band -> dimensions, crs and crs_transform as `getInfo` shows them.
    """

    bands: tuple[str, ...]
    dtype: str | Mapping[str, str]
    pixels: Callable[..., Layers]
    footprint: Callable[..., np.ndarray]
    crs: str | None = "EPSG:4326"
    properties: Mapping[str, Any] = field(default_factory=dict)
    geometry: Mapping[str, Any] | None = None
    grids: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def dtypes(self) -> dict[str, str]:
        """By band."""
        return {name: self.dtype if isinstance(self.dtype, str) else self.dtype[name] for name in self.bands}

    def at(self, points: Points) -> Layers:
        """Values and masks of each band; nothing outside the footprint."""
        where = (points,) if self.crs is None else points.to(self.crs)
        inside, layers = self.footprint(*where), self.pixels(*where)

        def layer(name: str) -> tuple[np.ndarray, np.ndarray]:
            values, mask = layers[name]
            return values, mask & inside

        return Lazy(self.bands, layer)

    def inside(self, points: Points) -> np.ndarray:
        """Where the image is."""
        return self.footprint(*((points,) if self.crs is None else points.to(self.crs)))


class Lazy(Mapping[str, tuple[np.ndarray, np.ndarray]]):
    """Layers that are computed when they are looked up."""

    def __init__(self, names: Iterable[str], layer: Callable[[str], tuple[np.ndarray, np.ndarray]]) -> None:
        self._names = tuple(names)
        self._layer = layer

    def __getitem__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self._layer(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _derived(image: Image, dtypes: Mapping[str, str], at: Callable[[Points], Layers], inside: Any = None) -> Image:
    """What an algorithm makes of an image: its metadata, other pixels."""
    grids = {name: image.grids[name] for name in dtypes if name in image.grids}
    return Image(tuple(dtypes), dict(dtypes), at, inside or image.inside, None, image.properties, image.geometry, grids)


def mosaic(collection: tuple[Image, ...]) -> Image:
    """The last image with data wins, pixel by pixel."""
    if not collection:
        return Image((), "uint8", lambda points: {}, lambda points: np.zeros(points.x.shape, bool), None)
    first = collection[0]

    def at(points: Points) -> Layers:
        layers = [image.at(points) for image in collection]
        mosaicked = {}
        for name in first.bands:
            values, mask = np.zeros(points.x.shape, first.dtypes[name]), np.zeros(points.x.shape, bool)
            for layer in layers:
                np.copyto(values, layer[name][0], where=layer[name][1])
                mask |= layer[name][1]
            mosaicked[name] = values, mask
        return mosaicked

    def inside(points: Points) -> np.ndarray:
        return np.logical_or.reduce([image.inside(points) for image in collection])

    return Image(first.bands, first.dtypes, at, inside, None)


def constant(value: int) -> Image:
    """The same everywhere."""

    def at(points: Points) -> Layers:
        return {"constant": (np.full(points.x.shape, value), np.ones(points.x.shape, bool))}

    return Image(("constant",), "int32", at, lambda points: np.ones(points.x.shape, bool), None)


def select(input: Image, bandSelectors: list[str], newNames: list[str] | None = None) -> Image:
    """Some bands, perhaps under other names."""
    for selector in bandSelectors:
        if selector not in input.bands:
            available = ", ".join(input.bands)
            raise ValueError(f"Band pattern '{selector}' did not match any bands. Available bands: [{available}]")
    names = dict(zip(newNames or bandSelectors, bandSelectors, strict=True))

    def at(points: Points) -> Layers:
        layers = input.at(points)
        return Lazy(names, lambda name: layers[names[name]])

    return _derived(input, {new: input.dtypes[old] for new, old in names.items()}, at)


def add_bands(dstImg: Image, srcImg: Image) -> Image:
    """The bands of both; the footprint is that of the first."""
    return _derived(
        dstImg, {**dstImg.dtypes, **srcImg.dtypes}, lambda points: {**dstImg.at(points), **srcImg.at(points)}
    )


def unmask(input: Image, value: Image, sameFootprint: bool = True) -> Image:
    """Another image where this one is masked."""

    def at(points: Points) -> Layers:
        ((other, other_mask),) = value.at(points).values()
        return {
            name: (np.where(mask, values, other).astype(input.dtypes[name]), mask | other_mask)
            for name, (values, mask) in input.at(points).items()
        }

    def inside(points: Points) -> np.ndarray:
        own = input.inside(points)
        return own if sameFootprint else own | value.inside(points)

    return _derived(input, input.dtypes, at, inside)


def cast(image: Image, dtype: str) -> Image:
    """All bands in another type; what it cannot hold becomes the nearest that it can."""
    limits = np.iinfo(dtype)

    def at(points: Points) -> Layers:
        return {
            name: (np.clip(values, limits.min, limits.max).astype(dtype), mask)
            for name, (values, mask) in image.at(points).items()
        }

    return _derived(image, dict.fromkeys(image.bands, dtype), at)


def described(input: Image) -> dict[str, Any]:
    """What `getInfo` shows of an image."""
    bands = [{"id": name, "data_type": {"type": "PixelType"}, **input.grids[name]} for name in input.bands]
    return {"type": "Image", "bands": bands, "properties": json.loads(json.dumps(dict(input.properties)))}
