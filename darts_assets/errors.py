"""The errors that users see; each message has the file, band or id, the problem and the expectation."""

from collections.abc import Mapping, Sequence
from typing import Any

from darts_assets.redaction import shown


class DartsError(Exception):
    """Base class of all errors with a message for users, which shows no credentials."""

    def __str__(self) -> str:
        return shown(super().__str__())


class SettingsError(DartsError):
    """A setting is missing or invalid; the message has its name."""


class SceneError(DartsError):
    """A scene id is malformed or unknown, or a STAC item is invalid."""


class RasterError(DartsError):
    """A raster file is missing, corrupt, truncated, or contradicts its item; the message has file and band."""


class SourceUnavailableError(DartsError):
    """A remote service did not answer after bounded retries; the message has its last response.

    Attributes:
        unreachable: whether there was no connection to it at all.
    """

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


class TooLargeError(DartsError, ValueError):
    """A file or a response has more bytes than are accepted; the message has its name and the limit.

    A ValueError, because readers of documents treat it like other invalid content.
    """


class CubeError(DartsError):
    """An auxiliary datacube cannot be read or filled; the message has the cube and chunk keys."""


class MissingChunksError(CubeError):
    """Chunks of a window are not in the cube, and are not fetched.

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
    """Some chunks could not be filled; all others are.

    Attributes:
        cube: name of the cube.
        failed: partition key -> error.
        filled: the chunks that were filled (`darts_assets.cubes.FilledChunk`).
        retryable: whether a retry can help, because a service did not answer.
        unreachable: whether there was no connection at all to a service.
    """

    def __init__(self, cube: str, failed: Mapping[str, DartsError], filled: Sequence[Any]) -> None:
        self.cube = cube
        self.failed = dict(failed)
        self.filled = list(filled)
        unavailable = [error for error in failed.values() if isinstance(error, SourceUnavailableError)]
        self.retryable = bool(unavailable)
        self.unreachable = any(error.unreachable for error in unavailable)
        reasons = [f"{key}: {error}" for key, error in list(failed.items())[:10]]
        reasons += [f"and {len(failed) - 10} more"] if len(failed) > 10 else []
        super().__init__(f"{cube}: {len(failed)} chunk(s) could not be filled: {'; '.join(reasons)}")


class CheckpointError(DartsError):
    """A model checkpoint is missing, invalid, unsafe, or incompatible; the message has the file."""


class TrainingError(DartsError):
    """A label archive or a training set is damaged or invalid; the message has the file, image or band."""


class VerdictError(DartsError):
    """Verdicts of reviewers are not in the expected form; the message has the position, the key and the expectation."""


class StoreError(DartsError):
    """An operation of the object store failed; the message has the location."""


class UnsafeStoreError(StoreError):
    """The object store ignores conditional writes, so that concurrent commits would be lost without an error."""


class NotReadableError(StoreError):
    """Nothing has been published at a location, or it has been damaged since."""
