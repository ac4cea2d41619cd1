"""The errors users see: each names the file, band or id that is wrong and what was expected."""

from collections.abc import Mapping, Sequence
from typing import Any


class DartsError(Exception):
    """Base of every error that `darts_assets` raises on purpose; its text is meant for the user."""


class SettingsError(DartsError):
    """A setting is missing or makes no sense; the text names the setting."""


class SceneError(DartsError):
    """A scene id is malformed or unknown, or a STAC item cannot be understood."""


class RasterError(DartsError):
    """A raster file is missing, corrupt, truncated, or not what its item says; the text names file and band."""


class SourceUnavailableError(DartsError):
    """A remote service did not answer after bounded retries; the text carries its last words."""


class CubeError(DartsError):
    """An auxiliary datacube cannot be read or filled; the text names cube and chunk keys."""


class MissingChunksError(CubeError):
    """Offline, or before filling: chunks that a window needs are not in the cube.

    Attributes:
        cube: name of the cube.
        chunks: partition keys of the missing chunks.
    """

    def __init__(self, cube: str, chunks: list[str], advice: str = "") -> None:
        self.cube = cube
        self.chunks = chunks
        shown = ", ".join(chunks[:10]) + (f" and {len(chunks) - 10} more" if len(chunks) > 10 else "")
        super().__init__(f"{cube}: {len(chunks)} chunk(s) are missing: {shown}.{' ' + advice if advice else ''}")


class ChunksFailedError(CubeError):
    """Some chunks could not be filled; every other one was.

    Attributes:
        cube: name of the cube.
        failed: partition key -> why the chunk could not be read.
        filled: the chunks that were filled all the same (`darts_assets.cubes.FilledChunk`).
        may_pass: whether trying again can help, because a service did not answer.
    """

    def __init__(self, cube: str, failed: Mapping[str, DartsError], filled: Sequence[Any]) -> None:
        self.cube = cube
        self.failed = dict(failed)
        self.filled = list(filled)
        self.may_pass = any(isinstance(error, SourceUnavailableError) for error in failed.values())
        said = [f"{key}: {error}" for key, error in list(failed.items())[:10]]
        said += [f"and {len(failed) - 10} more"] if len(failed) > 10 else []
        super().__init__(f"{cube}: {len(failed)} chunk(s) could not be filled: {'; '.join(said)}")


class CheckpointError(DartsError):
    """A model checkpoint is missing, not a checkpoint, unsafe, or does not fit; the text names the file."""


class TrainingError(DartsError):
    """A label archive or a training set is damaged, or not what was expected; the text names file, image or band."""


class StoreError(DartsError):
    """The object store cannot do what was asked; the text names the location."""


class UnsafeStoreError(StoreError):
    """The object store ignores conditional writes: concurrent commits would be lost without an error."""


class NotReadableError(StoreError):
    """Nothing has been published at a location, or what was published has since been damaged."""
