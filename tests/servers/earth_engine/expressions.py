# ruff: noqa: A002, A006 -- arguments have the names that they have in Earth Engine
"""Evaluates expressions of Earth Engine clients, for the algorithms that the tests use.

An expression is a graph of named values. Images stay functions of coordinates until pixels are requested; tables stay
filtered collections with mapped functions until a page is requested.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.servers.earth_engine.images import (
    Image,
    Points,
    add_bands,
    cast,
    constant,
    described,
    mosaic,
    select,
    unmask,
)
from tests.servers.earth_engine.tables import ALGORITHMS, Table, feature_of

Collections = Mapping[str, tuple[Image, ...]]

_REQUEST_BYTES = 50331648
_PAGE = 1000


class ExpressionError(Exception):
    """Earth Engine's error for an expression that cannot be evaluated."""

    def __init__(self, message: str, code: int = 400, status: str = "INVALID_ARGUMENT") -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def evaluate(expression: Mapping[str, Any], collections: Collections) -> Any:
    """The result of an expression.

    Raises:
        ExpressionError: as Earth Engine would answer.
    """
    values = expression["values"]
    algorithms = _algorithms(collections)

    def value_of(node: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        ((kind, content),) = node.items()
        match kind:
            case "constantValue":
                return content
            case "valueReference":
                return value_of(values[content], arguments)
            case "argumentReference":
                return arguments[content]
            case "arrayValue":
                return [value_of(entry, arguments) for entry in content["values"]]
            case "dictionaryValue":
                return {key: value_of(entry, arguments) for key, entry in content["values"].items()}
            case "functionDefinitionValue":
                names, body = content["argumentNames"], values[content["body"]]
                return lambda *given: value_of(body, {**arguments, **dict(zip(names, given, strict=True))})
            case "functionInvocationValue":
                return invoke(content["functionName"], {
                    key: value_of(argument, arguments) for key, argument in content["arguments"].items()
                })  # fmt: skip
        raise ExpressionError(f"Invalid value node: {kind}.")

    def invoke(name: str, arguments: dict[str, Any]) -> Any:
        if name not in algorithms:
            raise ExpressionError(f"Unknown function '{name}'.")
        try:
            return algorithms[name](**arguments)
        except (TypeError, LookupError, ValueError) as error:
            raise ExpressionError(f"{name}: {error}") from None

    return value_of({"valueReference": expression["result"]}, {})


def _algorithms(collections: Collections) -> dict[str, Callable[..., Any]]:
    def load_collection(id: str) -> tuple[Image, ...]:
        if id not in collections:
            raise _not_found("ImageCollection", id)
        return collections[id]

    def load_image(id: str) -> Image:
        collection, _, index = id.rpartition("/")
        matches = [image for image in collections.get(collection, ()) if image.properties.get("system:index") == index]
        if not matches:
            raise _not_found("Image", id)
        return matches[0]

    return {
        **ALGORITHMS,
        "ImageCollection.load": load_collection,
        "ImageCollection.mosaic": mosaic,
        "Image.load": load_image,
        "Image.addBands": add_bands,
        "Image.constant": constant,
        "Image.geometry": lambda feature: feature.geometry,
        "Image.select": select,
        "Image.toByte": lambda value: cast(value, "uint8"),
        "Image.toUint16": lambda value: cast(value, "uint16"),
        "Image.unmask": unmask,
        "Collection.filter": lambda collection, filter: [one for one in collection if filter(one)],
        "Collection.map": Table,
        "Describe": described,
        "Dictionary": lambda input: input,
        "Dictionary.get": lambda dictionary, key: dictionary[key],
        "List.get": lambda list, index: list[index],
    }


def _not_found(kind: str, name: str) -> ExpressionError:
    return ExpressionError(
        f"{kind}.load: {kind} asset '{name}' not found (does not exist or caller does not have access).",
        404,
        "NOT_FOUND",
    )


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
    points = _points(request["grid"])
    dtype = np.dtype(list(image.dtypes.items()))
    size = points.x.size * dtype.itemsize
    if size > _REQUEST_BYTES:
        raise ExpressionError(
            f"Total request size ({size} bytes) must be less than or equal to {_REQUEST_BYTES} bytes."
        )
    answer = np.zeros(points.x.shape, dtype=dtype)
    for name, (values, mask) in image.at(points).items():
        answer[name] = np.where(mask, values, np.iinfo(image.dtypes[name]).max)
    return answer


def _points(grid: Mapping[str, Any]) -> Points:
    width, height = grid["dimensions"]["width"], grid["dimensions"]["height"]
    affine = grid["affineTransform"]
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x = affine["translateX"] + affine["scaleX"] * col + affine.get("shearX", 0) * row
    y = affine["translateY"] + affine["scaleY"] * row + affine.get("shearY", 0) * col
    if grid["crsCode"] == "EPSG:4326" and (np.abs(x).max() > 180 or np.abs(y).max() > 90):
        raise ExpressionError("The grid reaches beyond the globe.")
    return Points(x, y, grid["crsCode"])


class Pages:
    """Answers to `table:computeFeatures`: a table is filtered once, and its elements computed page by page."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[Any, Table]] = {}

    def page(self, request: Mapping[str, Any], collections: Collections) -> dict[str, Any]:
        """One page, and the token of the next one.

        Raises:
            ExpressionError: as Earth Engine would answer; also for a token that belongs to another expression.
        """
        token, _, first = request.get("pageToken", "").partition("-")
        if token:
            asked, table = self._tables.get(token, (None, None))
            if asked != request["expression"]:
                raise ExpressionError("Invalid page token.")
        else:
            token, table = f"table{len(self._tables)}", evaluate(request["expression"], collections)
            self._tables[token] = request["expression"], table
        if not isinstance(table, Table):
            raise ExpressionError("The expression must evaluate to a table.")
        start = int(first or 0)
        stop = start + min(request.get("pageSize", _PAGE), _PAGE)
        features = [feature_of(table.element(n)) for n in range(start, min(stop, len(table.collection)))]
        more = {"nextPageToken": f"{token}-{stop}"} if stop < len(table.collection) else {}
        return {"type": "FeatureCollection", "features": features, **more}
