"""The segmentation ensemble as a resource; it reads checkpoint headers without torch."""

from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg
from dagster import ResourceDependency

from darts_assets.orchestration.core.resources import Store

if TYPE_CHECKING:
    from darts_assets.model import CheckpointHeader


class Models(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The segmentation ensemble; what its checkpoints say of themselves is read without torch.

    Attributes:
        checkpoints: `NAME=CHECKPOINT`, or the latter alone, as `model.local_checkpoint` takes it; none: the demo's.
    """

    store: ResourceDependency[Store]
    checkpoints: list[str] = []  # noqa: RUF012 - pydantic copies defaults

    @cached_property
    def headers(self) -> "list[CheckpointHeader]":
        """The checkpoints' headers.

        Raises:
            CheckpointError: if a checkpoint cannot be used.
            SourceUnavailableError: if it is on S3, which does not answer.
        """
        from darts_assets.demo import DEMO_CHECKPOINT
        from darts_assets.model import local_checkpoint, read_header

        if not self.checkpoints:
            return [read_header(DEMO_CHECKPOINT, "demo")]
        named = [_named(text) for text in self.checkpoints]
        return [read_header(local_checkpoint(checkpoint, self.store.root), name) for name, checkpoint in named]

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that the ensemble needs."""
        from darts_assets.model import required_bands

        return required_bands(self.headers)

    @property
    def terrain(self) -> str:
        """The terrain convention that the ensemble was trained on."""
        from darts_assets.model import terrain_convention

        return terrain_convention(self.headers)


def _named(text: str) -> tuple[str | None, str]:
    name, separator, checkpoint = text.partition("=")
    # A name is no path; `s3://bucket/epoch=3.ckpt` is not a checkpoint of that name.
    return (name, checkpoint) if separator and "/" not in name else (None, text)
