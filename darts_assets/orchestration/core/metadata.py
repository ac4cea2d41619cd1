"""What every materialization says of itself: config, versions, inputs; and errors as the user should see them."""

import base64
import hashlib
import io
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg

from darts_assets.errors import ChunksFailedError, DartsError, SourceUnavailableError
from darts_assets.orchestration.compute import MAX_SOURCE_RETRIES, SOURCE_RETRY_SECONDS

if TYPE_CHECKING:
    from PIL.Image import Image


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


@contextmanager
def domain_call(log: logging.Logger) -> Iterator[None]:
    """Domain code within a step: its log lines go to Dagster's log, its errors become failures that show a sentence.

    Only an unavailable service is worth a retry.

    Args:
        log: the step's logger, `context.log`.
    """
    forward = _Forward(log)
    domain = logging.getLogger("darts_assets")
    level = domain.level
    domain.setLevel(logging.INFO)
    domain.addHandler(forward)
    try:
        yield
    except DartsError as error:
        if isinstance(error, SourceUnavailableError) or (isinstance(error, ChunksFailedError) and error.may_pass):
            raise dg.RetryRequested(MAX_SOURCE_RETRIES, SOURCE_RETRY_SECONDS) from error
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error
    finally:
        domain.removeHandler(forward)
        domain.setLevel(level)


class _Forward(logging.Handler):
    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.log(record.levelno, record.getMessage())
