"""STAC collections: of the scenes of a family, of models, of the table of detections; and the catalog above them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pystac

from darts_assets.catalog.extents import covering
from darts_assets.catalog.scene_item import KINDS
from darts_assets.catalog.vocabulary import MLM, PARQUET, PROJECTION, STAC_VERSION, TABLE, link

TITLES = {
    "sentinel2": "Thaw slumps in Sentinel-2 scenes",
    "planet": "Thaw slumps in PlanetScope images",
    "models": "Segmentation models",
    "detections": "Detected thaw slumps, all scenes",
}
_WORLD = [-180.0, -90.0, 180.0, 90.0]
_KEYWORDS = ["permafrost", "retrogressive thaw slumps", "segmentation", "Arctic"]


def root_catalog(children: Sequence[str]) -> dict[str, Any]:
    """`catalog/catalog.json`."""
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": "darts-assets",
        "title": "Retrogressive thaw slumps",
        "description": "Thaw slumps mapped from satellite scenes by darts_assets.",
        "links": [
            link("root", "./catalog.json"),
            *(link("child", f"./stac/{name}/collection.json", title=TITLES[name]) for name in children),
        ],
    }


def scenes_collection(
    family: str, entries: Mapping[str, Mapping[str, Any]], models: Sequence[str], licence: str
) -> dict[str, Any]:
    """`catalog/stac/<family>/collection.json`, whose links to items carry what the next update must know.

    Args:
        family: of the scenes; at least one is there.
        entries: scene -> the link to its item, with `datetime`, `bbox` and other facts.
        models: where the items of their models are, relative to the collection.
        licence: SPDX identifier, or `other`.
    """
    links = list(entries.values())
    return {
        **_collection(family, "The products of each scene: rasters, polygons, thumbnail.", licence),
        "stac_extensions": [PROJECTION],
        "extent": {
            "spatial": {"bbox": [covering(entry["bbox"] for entry in links)]},
            "temporal": {"interval": [_interval(entry["datetime"] for entry in links)]},
        },
        "summaries": {
            "proj:code": sorted({entry["darts:crs"] for entry in links}),
            "processing:level": ["L4"],
            "darts:objects": {
                "minimum": min(entry["darts:objects"] for entry in links),
                "maximum": max(entry["darts:objects"] for entry in links),
            },
        },
        "item_assets": {
            "probabilities": _definition("probabilities", pystac.MediaType.COG),
            "binarized": _definition("binarized", pystac.MediaType.COG),
            "prediction_segments": _definition("prediction_segments", PARQUET),
            "prediction_extent": _definition("prediction_extent", PARQUET),
            "thumbnail": _definition("thumbnail", pystac.MediaType.JPEG),
        },
        "links": [
            *_upwards(),
            *(link("related", href, pystac.MediaType.GEOJSON, title="Model") for href in models),
            *links,
        ],
    }


def models_collection(models: Iterable[str], licence: str) -> dict[str, Any]:
    """`catalog/stac/models/collection.json`."""
    return {
        **_collection("models", "The models whose results these are, by the hashes of their checkpoints.", licence),
        "stac_extensions": [MLM],
        "extent": {"spatial": {"bbox": [_WORLD]}, "temporal": {"interval": [[None, None]]}},
        "summaries": {"mlm:tasks": ["semantic-segmentation"]},
        "links": [*_upwards(), *(link("item", f"./{name}.json", pystac.MediaType.GEOJSON) for name in sorted(models))],
    }


def detections_collection(
    parts: Mapping[str, Mapping[str, Any]],
    scenes: Mapping[str, Mapping[str, Any]],
    columns: Sequence[Any],
    licence: str,
) -> dict[str, Any]:
    """`catalog/stac/detections/collection.json`: the files of the table as assets, and of what they are made.

    Args:
        parts: key of each file below `catalog/detections` -> its `rows`, `bbox`, `start` and `end`.
        scenes: what the next update must know of each scene.
        columns: of the table.
        licence: SPDX identifier, or `other`.
    """
    boxes = [part["bbox"] for part in parts.values()] or [_WORLD]
    times = [part[end] for part in parts.values() for end in ("start", "end")]
    return {
        **_collection("detections", "All detected thaw slumps as GeoParquet, by year and region.", licence),
        "stac_extensions": [TABLE],
        "extent": {
            "spatial": {"bbox": [covering(boxes)]},
            "temporal": {"interval": [_interval(times) if times else [None, None]]},
        },
        "table:columns": list(columns),
        "table:primary_geometry": "geometry",
        "table:row_count": sum(part["rows"] for part in parts.values()),
        "assets": {
            key.removesuffix("/part.parquet").replace("/", ","): {
                "href": f"../../detections/{key}",
                "type": str(PARQUET),
                "roles": ["data"],
                "table:row_count": part["rows"],
                "darts:bbox": part["bbox"],
            }
            for key, part in sorted(parts.items())
        },
        "links": _upwards(),
        "darts:parts": parts,
        "darts:state": scenes,
    }


def _collection(name: str, description: str, licence: str) -> dict[str, Any]:
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "id": name,
        "title": TITLES[name],
        "description": description,
        "keywords": _KEYWORDS,
        "license": licence,
        "providers": [{"name": "darts_assets", "roles": ["processor"]}],
    }


def _upwards() -> list[dict[str, Any]]:
    return [link("root", "../../catalog.json"), link("parent", "../../catalog.json")]


def _definition(stem: str, media: str) -> dict[str, Any]:
    return {"title": KINDS[stem].title, "roles": KINDS[stem].roles, "type": str(media)}


def _interval(times: Iterable[str]) -> list[str]:
    ordered = sorted(times)
    return [ordered[0], ordered[-1]]
