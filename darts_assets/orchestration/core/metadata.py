"""What every materialization says of itself: config, versions, inputs; and errors as the user should see them."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from darts_assets.bands import FEATURES

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from PIL.Image import Image

    from darts_assets.scene import Scene
    from darts_assets.stores.tiles import WrittenTile


def as_metadata(facts: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    """Facts as Dagster metadata: containers as JSON, the rest by their type."""
    return {
        name: dg.MetadataValue.json(value) if isinstance(value, dict | list) else _scalar(value)
        for name, value in facts.items()
        if value is not None
    }


def _scalar(value: Any) -> dg.MetadataValue[Any]:
    if isinstance(value, dg.MetadataValue):
        return value
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    return dg.MetadataValue.float(value) if isinstance(value, float) else dg.MetadataValue.text(str(value))


def picture(image: "Image", *, photo: bool = False) -> dg.MetadataValue[Any]:
    """A picture for the UI, of some kilobytes, as the event log keeps it: a drawing as it is, a photo nearly so."""
    return dg.MetadataValue.md(image_link(image, "webp", **({"quality": 80} if photo else {"lossless": True})))


def image_link(image: "Image", kind: Literal["png", "webp"] = "png", **options: Any) -> str:
    """Markdown that carries the image itself; the UI shows it in place up to 1000 characters, else on a click.

    Args:
        image: RGB.
        kind: WebP is a fifth of PNG's size for maps (`lossless=True`) and terrain (`quality`).
        options: of the format.
    """
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"![](data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()})"


def data_version(code_version: str, parameters: Mapping[str, Any], **inputs: str) -> str:
    """A version of a step's output: the same code, parameters and inputs give the same version."""
    text = json.dumps([code_version, parameters, inputs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(code_version: str, parameters: Mapping[str, Any], **inputs: str) -> dict[str, Any]:
    """JSON facts for manifests and metadata: code, config and inputs of a step."""
    return {
        "code_version": f"{version('darts_assets')}+{code_version}",
        "parameters": json.loads(json.dumps(parameters, default=str)),
        "inputs": inputs,
        "data_version": data_version(code_version, parameters, **inputs),
    }


Pictures = dict[str, dg.MetadataValue[Any]]


def tile_previews(written: "WrittenTile") -> Pictures:
    """A sheet of the features, or a histogram of the probabilities: what the tile holds of them."""
    pictures: Pictures = {}
    if set(FEATURES) <= written.preview.keys():
        from darts_assets.plots import contact_sheet

        pictures["features"] = _photo(contact_sheet(written.preview))
    if "probabilities" in written.statistics:
        from darts_assets.model.sanity import percent_counts
        from darts_assets.plots import histogram

        pictures["histogram"] = _drawing(histogram(percent_counts(written.statistics["probabilities"])))
    return pictures


def location_preview(scene: "Scene", geobox: "GeoBox") -> Pictures:
    """Where a scene lies: its footprint, or its grid where the item gives no footprint."""
    from pyproj import CRS

    from darts_assets.geo.antimeridian import footprint, lonlat_area
    from darts_assets.maps import location_map

    area = footprint(scene.geometry) or lonlat_area(geobox.extent.geom, CRS(str(geobox.crs)))
    return {"location": _drawing(location_map(area))}


def detection_preview(thumbnail: "Image", geobox: "GeoBox", objects: int) -> Pictures:
    """The scene in its colours with the outlines of detections, a legend and a scale."""
    from darts_assets.plots import captioned

    metres = max(geobox.shape) * abs(geobox.resolution.x) / max(thumbnail.size)
    return {"thumbnail": _photo(captioned(thumbnail, metres, objects))}


def _photo(image: "Image") -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(image_link(image, "webp", quality=80, method=4))


def _drawing(image: "Image") -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(image_link(image, "webp", lossless=True, method=4))
