"""Evaluates the expressions that Earth Engine's clients send, for the few algorithms that the tests use.

An expression is a graph of values by name; images are functions of longitude and latitude until pixels are wanted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Coordinates = tuple[np.ndarray, np.ndarray]
"""Longitudes and latitudes of pixel centres, both (rows, columns)."""


class ExpressionError(Exception):
    """What Earth Engine answers to an expression that it cannot evaluate."""

    def __init__(self, message: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True)
class Image:
    """Bands in an order; `pixels` gives their values and masks at coordinates, `footprint` tells where the image is."""

    bands: tuple[str, ...]
    dtype: str
    pixels: Callable[[np.ndarray, np.ndarray], dict[str, tuple[np.ndarray, np.ndarray]]]
    footprint: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def at(self, lon: np.ndarray, lat: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Values and masks of each band; nothing outside the footprint."""
        inside = self.footprint(lon, lat)
        return {name: (values, mask & inside) for name, (values, mask) in self.pixels(lon, lat).items()}


Collections = Mapping[str, tuple[Image, ...]]


def evaluate(expression: Mapping[str, Any], collections: Collections) -> Any:
    """The result of an expression.

    Raises:
        ExpressionError: as Earth Engine would answer.
    """
    values = expression["values"]
    algorithms = _algorithms(collections)

    def value_of(node: Mapping[str, Any]) -> Any:
        ((kind, content),) = node.items()
        match kind:
            case "constantValue":
                return content
            case "valueReference":
                return value_of(values[content])
            case "arrayValue":
                return [value_of(entry) for entry in content["values"]]
            case "functionInvocationValue":
                name = content["functionName"]
                if name not in algorithms:
                    raise ExpressionError(f"Unknown function '{name}'.")
                arguments = {key: value_of(argument) for key, argument in content["arguments"].items()}
                try:
                    return algorithms[name](**arguments)
                except TypeError as error:
                    raise ExpressionError(f"{name}: {error}") from None
        raise ExpressionError(f"Invalid value node: {kind}.")

    return value_of({"valueReference": expression["result"]})


def _algorithms(collections: Collections) -> dict[str, Callable[..., Any]]:
    def load(id: str) -> tuple[Image, ...]:  # noqa: A002 -- Earth Engine's name
        if id not in collections:
            raise ExpressionError(
                f"ImageCollection.load: ImageCollection asset '{id}' not found (does not exist or caller does not have "
                "access).",
                404,
                "NOT_FOUND",
            )
        return collections[id]

    return {
        "ImageCollection.load": load,
        "ImageCollection.mosaic": _mosaic,
        "Image.constant": _constant,
        "Image.select": _select,
        "Image.unmask": _unmask,
        "Image.toByte": lambda value: _cast(value, "uint8"),
    }


def _mosaic(collection: tuple[Image, ...]) -> Image:
    """The last image with data wins, pixel by pixel."""
    if not collection:
        return Image((), "uint8", lambda lon, lat: {}, lambda lon, lat: np.zeros(lon.shape, bool))
    first = collection[0]

    def pixels(lon: np.ndarray, lat: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        layers = [image.at(lon, lat) for image in collection]
        found = {}
        for name in first.bands:
            values, mask = np.zeros(lon.shape, first.dtype), np.zeros(lon.shape, bool)
            for layer in layers:
                np.copyto(values, layer[name][0], where=layer[name][1])
                mask |= layer[name][1]
            found[name] = values, mask
        return found

    def footprint(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        return np.logical_or.reduce([image.footprint(lon, lat) for image in collection])

    return Image(first.bands, first.dtype, pixels, footprint)


def _constant(value: int) -> Image:
    def pixels(lon: np.ndarray, lat: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {"constant": (np.full(lon.shape, value), np.ones(lon.shape, bool))}

    return Image(("constant",), "int32", pixels, lambda lon, lat: np.ones(lon.shape, bool))


def _select(input: Image, bandSelectors: list[str], newNames: list[str] | None = None) -> Image:  # noqa: A002
    for selector in bandSelectors:
        if selector not in input.bands:
            available = ", ".join(input.bands)
            raise ExpressionError(
                f"Image.select: Band pattern '{selector}' did not match any bands. Available bands: [{available}]"
            )
    names = dict(zip(newNames or bandSelectors, bandSelectors, strict=True))

    def pixels(lon: np.ndarray, lat: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        found = input.pixels(lon, lat)
        return {new: found[old] for new, old in names.items()}

    return Image(tuple(names), input.dtype, pixels, input.footprint)


def _unmask(input: Image, value: Image, sameFootprint: bool = True) -> Image:  # noqa: A002
    def pixels(lon: np.ndarray, lat: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        ((other, other_mask),) = value.at(lon, lat).values()
        return {
            name: (np.where(mask, values, other).astype(input.dtype), mask | other_mask)
            for name, (values, mask) in input.at(lon, lat).items()
        }

    def footprint(lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
        own = input.footprint(lon, lat)
        return own if sameFootprint else own | value.footprint(lon, lat)

    return Image(input.bands, input.dtype, pixels, footprint)


def _cast(image: Image, dtype: str) -> Image:
    def pixels(lon: np.ndarray, lat: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        return {name: (values.astype(dtype), mask) for name, (values, mask) in image.pixels(lon, lat).items()}

    return Image(image.bands, dtype, pixels, image.footprint)


def compute_pixels(request: Mapping[str, Any], collections: Collections) -> np.ndarray:
    """The answer to `image:computePixels`: a structured array, a field for each band.

    What Earth Engine puts into masked pixels is not documented; here it is the highest value, so that nobody mistakes
    it for "nothing there".

    Raises:
        ExpressionError: as Earth Engine would answer.
    """
    image = evaluate(request["expression"], collections)
    if not isinstance(image, Image):
        raise ExpressionError("The expression must evaluate to an image.")
    lon, lat = _coordinates(request["grid"])
    size = lon.size * len(image.bands) * np.dtype(image.dtype).itemsize
    if size > 50331648:
        raise ExpressionError(f"Total request size ({size} bytes) must be less than or equal to 50331648 bytes.")
    answer = np.zeros(lon.shape, dtype=[(name, image.dtype) for name in image.bands])
    for name, (values, mask) in image.at(lon, lat).items():
        answer[name] = np.where(mask, values, np.iinfo(image.dtype).max)
    return answer


def _coordinates(grid: Mapping[str, Any]) -> Coordinates:
    if grid["crsCode"] != "EPSG:4326":
        raise ExpressionError(f"This server knows EPSG:4326, not {grid['crsCode']}.")
    width, height = grid["dimensions"]["width"], grid["dimensions"]["height"]
    affine = grid["affineTransform"]
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    lon = affine["translateX"] + affine["scaleX"] * col + affine.get("shearX", 0) * row
    lat = affine["translateY"] + affine["scaleY"] * row + affine.get("shearY", 0) * col
    if np.abs(lon).max() > 180 or np.abs(lat).max() > 90:
        raise ExpressionError("The grid reaches beyond the globe.")
    return lon, lat
