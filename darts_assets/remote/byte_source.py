"""Reaching files where they are (a path, `http(s)://`, `s3://`): their bytes. For pixels see `gdal`."""

from darts_assets.remote.hrefs import is_remote, local_path, shown
from darts_assets.remote.http_client import RemoteFile
from darts_assets.remote.s3_auth import MAX_CONNECTIONS, S3Options

__all__ = ["MAX_CONNECTIONS", "ByteSource", "S3Options", "is_remote", "local_path", "read_bytes", "shown"]


class ByteSource:
    """Byte ranges of one file.

    Attributes:
        href: where it is.
        is_local: whether it is on a disk.
        size: bytes of the file.
    """

    def __init__(self, href: str, s3: S3Options | None = None) -> None:
        """Look the file up.

        Args:
            href: a path, `http(s)://...` or `s3://bucket/key`.
            s3: how `s3://` is reached.

        Raises:
            FileNotFoundError: if there is no such file.
            SourceUnavailableError: if the service does not answer after bounded retries.
            SettingsError: if there are no keys for S3, or the service refuses them.
        """
        self.href = href
        self.is_local = not is_remote(href)
        if self.is_local:
            self._path = local_path(href)
            if not self._path.is_file():
                raise FileNotFoundError(href)
            self.size = self._path.stat().st_size
        else:
            self._remote = RemoteFile(href, s3 or S3Options())
            self.size, self._begin = self._remote.look()

    def read(self, start: int, length: int) -> bytes:
        """At most `length` bytes from `start` on; fewer at the end of the file.

        Raises:
            SourceUnavailableError: as on opening.
        """
        length = min(length, self.size - start)
        if length <= 0:
            return b""
        if not self.is_local:
            at_hand = self._begin[start : start + length]
            return at_hand if len(at_hand) == length else self._remote.read(start, length)
        with self._path.open("rb") as file:
            file.seek(start)
            return file.read(length)

    def save(self, path: str) -> None:
        """Write the whole of a remote file to a local path; raises as on opening, and OSError."""
        self._remote.save(local_path(path), self.size)


def read_bytes(href: str, s3: S3Options | None = None) -> bytes:
    """The whole of a small file; raises as `ByteSource`."""
    if is_remote(href):
        return RemoteFile(href, s3 or S3Options()).read_all()
    source = ByteSource(href)
    return source.read(0, source.size)
