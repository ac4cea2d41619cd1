"""Metadata of materializations: values, provenance and previews."""

import base64
import functools
import hashlib
import io
import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from darts_assets.bands import FEATURES
from darts_assets.orchestration.core.dagster_compat import add_to_materialization
from darts_assets.redaction import shown, shown_values

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from PIL.Image import Image

    from darts_assets.scene import Scene
    from darts_assets.stores.tiles import WrittenTile


def as_metadata(values: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    """Values as Dagster metadata, without credentials: containers as JSON, others by their type; None is left out."""
    return {
        name: dg.MetadataValue.json(shown_values(value)) if isinstance(value, dict | list) else _scalar(value)
        for name, value in values.items()
        if value is not None
    }


def in_units(values: Mapping[str, Any]) -> dict[str, str]:
    """Costs and size of a result in human units, of those that are among the values.

    `Took`: wall time, CPU time and peak memory; `Size`: bytes in the store.
    """
    numbers = {name: getattr(value, "value", value) for name, value in values.items()}
    took = [
        f"{_duration(numbers['seconds'])}" if "seconds" in numbers else "",
        f"{_duration(numbers['cpu_seconds'])} of CPU" if "cpu_seconds" in numbers else "",
        f"{_size(numbers['peak_memory'])} of memory" if "peak_memory" in numbers else "",
        f"{_size(numbers['peak_gpu_memory'])} of GPU memory" if "peak_gpu_memory" in numbers else "",
    ]
    size = {"Size": _size(numbers["bytes"])} if "bytes" in numbers else {}
    return {**size, **({"Took": ", ".join(filter(None, took))} if any(took) else {})}


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _scalar(value: Any) -> dg.MetadataValue[Any]:
    if isinstance(value, dg.MetadataValue):
        return value
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    return dg.MetadataValue.float(value) if isinstance(value, float) else dg.MetadataValue.text(shown(str(value)))


def materialize_result(
    metadata: Mapping[str, Any], facts: Mapping[str, Any], value: Any = None
) -> dg.MaterializeResult[Any]:
    """Result of an asset: metadata with the provenance `facts`, data version, and a value for the IO manager."""
    version = dg.DataVersion(facts["data_version"])
    # Dagster shows an event's metadata in this order, and on an asset's page by name, upper case first.
    metadata = as_metadata({**metadata, "provenance": facts})
    if value is None:
        return dg.MaterializeResult(metadata=metadata, data_version=version)
    return dg.MaterializeResult(value=value, metadata=metadata, data_version=version)


def without_pictures(
    context: dg.AssetExecutionContext | dg.OutputContext, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The metadata of an output without pictures, which go to the materialization only: they fill the event log.

    Null stands for each of them, so that the materialization shows it there.
    """
    pictures = {name: value for name, value in metadata.items() if isinstance(value, dg.MarkdownMetadataValue)}
    if pictures:
        add_to_materialization(context, pictures)
    return pictures_first({name: PLACE if name in pictures else value for name, value in metadata.items()})


PLACE = dg.MetadataValue.null()
"""Where the materialization shows a picture, in the metadata of an output."""


def pictures_first(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with pictures, and places of pictures, before all others: Dagster keeps the order of an event."""
    kinds = (dg.MarkdownMetadataValue, dg.NullMetadataValue)
    return dict(sorted(metadata.items(), key=lambda entry: not isinstance(entry[1], kinds)))


def picture(image: "Image", *, photo: bool = False) -> dg.MetadataValue[Any]:
    """An image for the UI, a few kilobytes in the event log: drawings lossless, photos at quality 80."""
    return dg.MetadataValue.md(image_link(image, "webp", **({"quality": 80} if photo else {"lossless": True})))


def image_link(image: "Image", kind: Literal["png", "webp"] = "png", **options: Any) -> str:
    """Markdown with the image embedded; the UI shows it inline up to 1000 characters, otherwise on click.

    Args:
        image: RGB.
        kind: file format; WebP has a fifth of the size of PNG for maps (`lossless=True`) and terrain (`quality`).
        options: options of the format.
    """
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"![](data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()})"


def data_version(code_version: str, parameters: Mapping[str, Any], **inputs: str) -> str:
    """Version of a step's output, 16 hexadecimal digits, from its code, parameters and inputs."""
    text = json.dumps([code_version, parameters, inputs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def provenance(code_version: str, parameters: Mapping[str, Any], **inputs: str) -> dict[str, Any]:
    """Code, parameters, inputs and data version of a step, as JSON for manifests and metadata."""
    return {
        "code_version": f"{_version()}+{code_version}",
        "parameters": json.loads(json.dumps(parameters, default=str)),
        "inputs": inputs,
        "data_version": data_version(code_version, parameters, **inputs),
    }


@functools.cache
def _version() -> str:
    return version("darts_assets")


Pictures = dict[str, dg.MetadataValue[Any]]


def tile_previews(written: "WrittenTile") -> Pictures:
    """Contact sheet of the features, or histogram of the probabilities, of the bands that the tile has."""
    pictures: Pictures = {}
    if set(FEATURES) <= written.preview.keys():
        from darts_assets.plots import contact_sheet

        pictures["Features"] = _photo(contact_sheet(written.preview))
    if "probabilities" in written.statistics:
        from darts_assets.model.sanity import percent_counts
        from darts_assets.plots import histogram

        pictures["Histogram"] = _drawing(histogram(percent_counts(written.statistics["probabilities"])))
    return pictures


def location_preview(scene: "Scene", geobox: "GeoBox") -> Pictures:
    """Map of a scene's footprint, or of its grid if the item has no footprint."""
    from pyproj import CRS

    from darts_assets.geo.antimeridian import footprint, lonlat_area
    from darts_assets.maps import location_map

    area = footprint(scene.geometry) or lonlat_area(geobox.extent.geom, CRS(str(geobox.crs)))
    return {"Location": dg.MetadataValue.md(image_link(location_map(area), "webp", quality=80, method=4))}


def detection_preview(thumbnail: "Image") -> Pictures:
    """The exported thumbnail."""
    return {"Picture": _photo(thumbnail)}


def _photo(image: "Image") -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(image_link(image, "webp", quality=60, method=4))


def _drawing(image: "Image") -> dg.MetadataValue[Any]:
    return dg.MetadataValue.md(image_link(image, "webp", lossless=True, method=4))
