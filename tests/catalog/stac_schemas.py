"""Schemas of the STAC extensions in use, so that pystac validates without a network.

pystac ships the schemas of STAC itself, which are used as they are. Those of extensions are fetched; these here are
written from the tables of fields in the extensions' specifications (stac-extensions.github.io) and say as much as the
catalog uses: types and forms of the fields, which are required, and that no other field has the extension's prefix.
"""

from typing import Any

from pystac.validation import JsonSchemaSTACValidator

_BASE = "https://stac-extensions.github.io/"
_TEXT, _NUMBER, _INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": 0}


def _list(of: dict[str, Any], *lengths: int) -> dict[str, Any]:
    sizes = [{"minItems": length, "maxItems": length} for length in lengths]
    return {"type": "array", "items": of, **({"oneOf": sizes} if sizes else {})}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


_PROJECTION = {
    "proj:code": {"type": ["string", "null"], "pattern": "^[A-Z]+:[0-9A-Za-z]+$"},
    "proj:wkt2": {"type": ["string", "null"]},
    "proj:bbox": _list(_NUMBER, 4, 6),
    "proj:shape": _list(_INTEGER, 2),
    "proj:transform": _list(_NUMBER, 6, 9),
}
_RASTER = {
    "raster:scale": _NUMBER,
    "raster:offset": _NUMBER,
    "raster:spatial_resolution": _NUMBER,
    "raster:sampling": {"enum": ["area", "point"]},
    "raster:bits_per_sample": _INTEGER,
}
_TABLE = {
    "table:columns": _list(_object(["name"], name=_TEXT, type=_TEXT, description=_TEXT)),
    "table:primary_geometry": _TEXT,
    "table:row_count": _INTEGER,
    "table:storage_options": {"type": "object"},
    "table:tables": _list(_object(["name"], name=_TEXT)),
}
_PROCESSING = {
    "processing:level": {"type": "string", "pattern": "^(RAW|L[0-4][A-Z]?)$"},
    "processing:lineage": _TEXT,
    "processing:facility": _TEXT,
    "processing:version": _TEXT,
    "processing:datetime": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
    "processing:software": {"type": "object", "additionalProperties": _TEXT},
    "processing:expression": _object(["format", "expression"]),
}
_TYPE = {"enum": ["uint8", "uint16", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "other"]}
_TASKS = _list({"enum": ["semantic-segmentation", "segmentation", "detection", "object-detection", "classification"]})
_DIMENSIONS = _list({"type": "string", "pattern": "^[a-z-_]+$"})
_STRUCTURE = _object(
    ["shape", "dim_order", "data_type"],
    shape=_list({"type": "integer", "minimum": -1}), dim_order=_DIMENSIONS, data_type=_TYPE,
)  # fmt: skip
_SCALING = _object(["type", "minimum", "maximum"], type={"const": "min-max"}, minimum=_NUMBER, maximum=_NUMBER)
_CLASS = _object(["value", "name"], value={"type": "integer"}, name={"type": "string", "pattern": "^[0-9A-Za-z-_]+$"})
_BANDS_NAMED = {"type": "object", "properties": {"dim_order": {"contains": {"const": "bands"}}}}
_MLM = {
    "mlm:name": {"type": "string", "pattern": r"^[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]$"},
    "mlm:architecture": {"type": "string", "minLength": 1},
    "mlm:tasks": {**_TASKS, "uniqueItems": True},
    "mlm:framework": {"type": "string", "minLength": 1},
    "mlm:hyperparameters": {"type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[0-9a-zA-Z_.-]+$"}},
    "mlm:artifact_type": {"type": "string", "minLength": 1},
    "mlm:input": _list(
        {
            **_object(["name", "input"], name=_TEXT, bands=_list(_TEXT), value_scaling=_list(_SCALING)),
            "allOf": [_object([], input=_STRUCTURE), _object([], input=_BANDS_NAMED)],
        }
    ),
    "mlm:output": _list(
        _object(
            ["name", "tasks", "result"],
            name=_TEXT, tasks=_TASKS, result=_STRUCTURE, **{"classification:classes": _list(_CLASS)},
        )
    ),
}  # fmt: skip


_ANGLE = {"type": "number", "minimum": 0, "maximum": 360}
_STEEP = {"type": "number", "minimum": 0, "maximum": 90}
_SHARE = {"type": "number", "minimum": 0, "maximum": 100}
_EO = {"eo:cloud_cover": _SHARE, "eo:snow_cover": _SHARE}
_VIEW = {
    "view:off_nadir": _STEEP,
    "view:incidence_angle": _STEEP,
    "view:azimuth": _ANGLE,
    "view:sun_azimuth": _ANGLE,
    "view:sun_elevation": {"type": "number", "minimum": -90, "maximum": 90},
}
_FILE = {
    "file:size": _INTEGER,
    "file:checksum": {"type": "string", "pattern": "^[a-f0-9]+$"},
    "file:header_size": _INTEGER,
    "file:byte_order": {"enum": ["big-endian", "little-endian"]},
}
_MASK_CLASS = _object(
    ["value", "name"],
    value={"type": "integer"}, name={"type": "string", "pattern": "^[0-9A-Za-z-_]+$"}, title=_TEXT, description=_TEXT,
    color_hint={"type": "string", "pattern": "^[0-9A-Fa-f]{6}$"}, nodata={"type": "boolean"},
)  # fmt: skip
_CLASSIFICATION = {"classification:classes": {**_list(_MASK_CLASS), "minItems": 1, "uniqueItems": True}}
_ZARR = {
    "zarr:node_type": {"enum": ["group", "array"]},
    "zarr:zarr_format": {"type": "integer"},
    "zarr:consolidated": {"type": "boolean"},
}


def _schema(
    name: str,
    prefix: str,
    fields: dict[str, Any],
    item: dict[str, Any] | None = None,
    of_collection: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A schema whose fields may stand in an item's properties, in assets and bands, and at the top of a collection."""
    uri = f"{_BASE}{name}/schema.json"
    known: dict[str, Any] = {
        "type": "object",
        "properties": fields,
        "patternProperties": {f"^(?!{prefix}:)": {}},
        "additionalProperties": False,
    }
    anywhere = {"allOf": [known, _object([], bands=_list(known))]}
    assets = {"type": "object", "additionalProperties": anywhere}
    declared = _object(["stac_extensions"], stac_extensions={"contains": {"const": uri}})
    feature = _object(["properties", "assets"], properties=anywhere, assets=assets)
    collection = {"allOf": [known, _object([], assets=assets, item_assets=assets), of_collection or {}]}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": uri,
        "allOf": [declared],
        "if": _object([], type={"const": "Feature"}),
        "then": {"allOf": [feature, *([item] if item else [])]},
        "else": collection,
    }


_VERSION = {"properties": {"version": _TEXT, "deprecated": {"type": "boolean"}}, "required": ["version"]}
_SCIENTIFIC = {
    "sci:doi": {"type": "string", "pattern": r"^10\.[0-9a-zA-Z]{4,}/[^\s]+$"},
    "sci:citation": _TEXT,
    "sci:publications": _list({"type": "object"}),
}
_SUMMARIES = _object([], summaries={"type": "object", "additionalProperties": {"type": "object"}})
"""MLM refuses lists of values in summaries, of all fields."""
_REQUIRED = ["mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"]
_OF_ITEMS = ["mlm:name", "mlm:input", "mlm:output", "mlm:hyperparameters"]
_IS_MODEL = _object(["roles", "mlm:artifact_type"], roles={"contains": {"const": "mlm:model"}})
_MODEL_ITEM = {
    "allOf": [
        _object([], properties=_object([*_REQUIRED, "bands"], bands={"minItems": 1})),
        _object([], assets={"not": {"additionalProperties": {"not": _IS_MODEL}}}),  # one asset at least
        _object([], properties={"not": _object(["mlm:artifact_type"])}),
        _object([], assets={"additionalProperties": {"not": {"anyOf": [_object([name]) for name in _OF_ITEMS]}}}),
    ]
}
_TABLE_ITEM = _object([], properties=_object(["table:columns"]))
_VIEW_ITEM = _object([], properties={"anyOf": [_object([name]) for name in _VIEW]})

SCHEMAS = [
    _schema("projection/v2.0.0", "proj", _PROJECTION),
    _schema("raster/v2.0.0", "raster", _RASTER),
    _schema("table/v1.2.0", "table", _TABLE, _TABLE_ITEM),
    _schema("processing/v1.2.0", "processing", _PROCESSING),
    _schema("zarr/v1.1.0", "zarr", _ZARR),
    _schema("eo/v1.1.0", "eo", _EO),
    _schema("view/v1.0.0", "view", _VIEW, _VIEW_ITEM),
    _schema("file/v2.1.0", "file", _FILE),
    _schema("classification/v2.0.0", "classification", _CLASSIFICATION),
    _schema("version/v1.2.0", "version", {}, of_collection=_VERSION),
    _schema("scientific/v1.0.0", "sci", _SCIENTIFIC),
    _schema("mlm/v1.4.0", "mlm", _MLM, _MODEL_ITEM, _SUMMARIES),
]


def offline_validator() -> JsonSchemaSTACValidator:
    """A validator that knows all schemas that the catalog names; others would be fetched, and fail."""
    validator = JsonSchemaSTACValidator()
    validator.schema_cache |= {schema["$id"]: schema for schema in SCHEMAS}
    return validator
