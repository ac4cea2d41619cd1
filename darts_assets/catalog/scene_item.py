"""The products of a scene as a STAC item (STAC 1.1), with the extensions projection, raster, table and processing."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pystac
from shapely.geometry import shape

from darts_assets.catalog.extents import box_of
from darts_assets.catalog.model_item import model_id
from darts_assets.catalog.published_products import Products
from darts_assets.catalog.vocabulary import (
    GEOPACKAGE,
    PARQUET,
    PROCESSING,
    PROJECTION,
    RASTER,
    STAC_VERSION,
    TABLE,
    link,
)

_TO_ROOT = "../../../../"
"""From the folder of an item, `catalog/stac/<family>/<scene>`, to the root of the store."""


class Kind(NamedTuple):
    """What a file is, as far as its name tells.

    Attributes:
        title: for people.
        roles: of STAC.
    """

    title: str
    roles: list[str]


KINDS: Mapping[str, Kind] = {
    "probabilities": Kind("Probability of a thaw slump in percent, 255 where it was not looked", ["data"]),
    "binarized": Kind("Detections: 1 thaw slump, 0 none", ["data"]),
    "prediction_segments": Kind("Detected thaw slumps as polygons", ["data"]),
    "prediction_extent": Kind("The area that was looked at", ["data-mask"]),
    "thumbnail": Kind("True colours with outlines of the detections", ["thumbnail"]),
    "metadata": Kind("Scene, parameters and versions", ["metadata"]),
}
"""By the stem of a file; others are bands, or groups of bands, of the features."""

_MEDIA = {
    ".tif": pystac.MediaType.COG,
    ".gpkg": GEOPACKAGE,
    ".parquet": PARQUET,
    ".jpg": pystac.MediaType.JPEG,
    ".json": pystac.MediaType.JSON,
}


def scene_item(products: Products, models: Collection[str] = ()) -> dict[str, Any]:
    """The item of a scene's products, for `catalog/stac/<family>/<scene>/`.

    Args:
        products: of the scene.
        models: ids of the model items that there are.
    """
    facts = products.facts
    said, grid, files = facts["metadata"], facts["grid"], facts["files"]
    geometry = facts["footprint"]
    segments = files.get("prediction_segments.parquet")
    transform = grid["transform"]
    properties: dict[str, Any] = {
        "datetime": utc(said["datetime"]),
        "created": utc(said["export_date"]),
        "gsd": abs(transform[0]),
        "proj:code": grid["crs"],
        "proj:shape": grid["shape"],
        "proj:transform": transform,
        "proj:bbox": _bounds(transform, grid["shape"]),
        "processing:level": "L4",
        "processing:datetime": utc(said["export_date"]),
        "processing:lineage": _lineage(said),
        "processing:software": _software(said),
        **(_table(segments) if segments else {}),
        **{f"darts:{name}": value for name, value in facts["summary"].items()},
        **{f"darts:{name}": said[name] for name in ("models", "config_hash", "data_version", "item_hash")},
        "darts:source": said["source"],
        **({"darts:tile": said["tile"]} if said.get("tile") else {}),
    }
    extensions = [PROJECTION, PROCESSING, *([TABLE] if segments else [])]
    if any("bands" in file for file in files.values()):
        extensions.append(RASTER)
    used = [model_id(name, sha256) for name, sha256 in said["models"].items()]
    links = [
        link("root", "../../../catalog.json"),
        link("parent", "../collection.json"),
        link("collection", "../collection.json"),
        link(
            "derived_from", f"{_TO_ROOT}scenes/{products.family}/{products.scene}.json", pystac.MediaType.GEOJSON,
            title="The scene, as it was registered",
        ),
        *(
            link("derived_from", f"../../models/{name}.json", pystac.MediaType.GEOJSON, title="The model")
            for name in used
            if name in models
        ),
    ]  # fmt: skip
    if facts.get("item"):
        links.append(link("via", facts["item"], title="The scene, at its provider"))
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": extensions,
        "id": products.scene,
        "collection": products.family,
        "geometry": geometry,
        "bbox": box_of(shape(geometry)),
        "properties": properties,
        "links": links,
        "assets": {_asset_key(name): _asset(products, name, file) for name, file in files.items()},
    }


def utc(moment: str) -> str:
    """A time as STAC has it: in UTC, with a Z."""
    return dt.datetime.fromisoformat(moment).astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _asset_key(file: str) -> str:
    stem, _, suffix = file.rpartition(".")
    return f"{stem}-gpkg" if suffix == "gpkg" else stem


def _asset(products: Products, name: str, file: Mapping[str, Any]) -> dict[str, Any]:
    stem, suffix = Path(name).stem, Path(name).suffix
    base, _, model = stem.partition("-")
    kind = KINDS.get(base) or Kind(f"{base}, on the scene's grid", ["data"])
    asset: dict[str, Any] = {
        "href": _TO_ROOT + products.key(name),
        "type": str(_MEDIA[suffix]),
        "title": f"{kind.title} (model {model})" if model else kind.title,
        "roles": kind.roles,
    }
    if "bands" in file:
        asset["bands"] = [
            {
                **{key: each[key] for key in ("name", "data_type", "nodata", "unit") if key in each},
                "raster:scale": each["scale"],
                "raster:offset": each["offset"],
            }
            for each in file["bands"]
        ]
    if "columns" in file:
        asset |= _table(file)
    return asset


def _table(file: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "table:columns": file["columns"],
        "table:primary_geometry": "geometry",
        "table:row_count": file["rows"],
    }


def _bounds(transform: Sequence[float], shape_: Sequence[int]) -> list[float]:
    """Of a grid that is not rotated."""
    width, _, left, _, height, top = transform
    rows, columns = shape_
    xs, ys = sorted((left, left + columns * width)), sorted((top, top + rows * height))
    return [xs[0], ys[0], xs[1], ys[1]]


def _lineage(said: Mapping[str, Any]) -> str:
    models = ", ".join(f"{name} ({sha256[:16]})" for name, sha256 in said["models"].items())
    return (
        f"Features of {said['scene_id']} ({said['source']}) with terrain convention {said['terrain']}; segmentation by "
        f"{models}; probabilities above {said['threshold']} in objects of at least {said['min_object_size']} pixels."
    )


def _software(said: Mapping[str, Any]) -> dict[str, str]:
    own = str(said["code_version"]).partition("+")[0]
    steps = {f"darts_assets.{step}": str(facts["code_version"]) for step, facts in said["steps"].items()}
    return {"darts_assets": own or version("darts_assets"), **steps}
