"""What every materialization says of itself: config, versions, inputs; and errors as the user should see them."""

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

if TYPE_CHECKING:
    from PIL.Image import Image


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
