"""Files inside zip archives, read in place: `/folder/ARCHIVE.zip!/path/in/it`, or `s3://bucket/ARCHIVE.zip!/path`.

Only the index of the archive and the bytes of a member are read, by ranges. Members of archives on a disk are opened by
GDAL's `/vsizip/` (see `gdal_options`); those of remote archives are copied like other remote JPEG 2000 files. A member
never determines a path: names come from the index, and only names that a caller expects are opened.
"""

import io
import re
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from darts_assets.errors import RasterError
from darts_assets.redaction import shown
from darts_assets.remote.byte_reader import ByteReader, S3Options, local_path
from darts_assets.remote.responses import MAX_DOCUMENT_BYTES, Allowance

_MEMBER = re.compile(r"(.+?\.zip)!/(.+)", re.IGNORECASE | re.DOTALL)
_TAIL = 1 << 16  # has the index of an archive with a few hundred members
_FETCH = 1 << 23
_FEED = 1 << 16  # compressed bytes that are inflated at once; they become at most 64 MiB
_LOCAL_HEADER = 30
_ENCRYPTED = 0x1


def split_member(href: str) -> tuple[str, str] | None:
    """The archive and the name in it of a member's href, None for other hrefs."""
    match = _MEMBER.fullmatch(href)
    return (match[1], match[2]) if match else None


def open_reader(href: str, s3: S3Options | None = None) -> ByteReader:
    """A file, or a member of an archive; raises as `ByteReader`, and RasterError for a damaged archive."""
    parts = split_member(href)
    return ZipArchive(parts[0], s3).member(parts[1]) if parts else ByteReader(href, s3)


class ZipArchive:
    """The index of an archive.

    Args:
        href: a path, `http(s)://...` or `s3://bucket/key`.
        s3: access to `s3://`.

    Raises:
        RasterError: if it is not a complete zip archive.
        FileNotFoundError, SourceUnavailableError, SettingsError: as `ByteReader`.
    """

    def __init__(self, href: str, s3: S3Options | None = None) -> None:
        self.href = href
        self.file = ByteReader(href, s3)
        try:
            self.zip = zipfile.ZipFile(io.BufferedReader(_Seekable(self.file), _TAIL))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise RasterError(
                f"{shown(href)} is not a complete zip archive ({error}); the download may have been interrupted"
            ) from None

    @property
    def sizes(self) -> Mapping[str, int]:
        """Name -> bytes, of the files."""
        return {info.filename: info.file_size for info in self.zip.infolist() if not info.is_dir()}

    def member(self, name: str) -> "ZipMember":
        """A file of the archive; raises FileNotFoundError."""
        return ZipMember(self, name)


class ZipMember(ByteReader):
    """Byte ranges of a file in an archive.

    Raises:
        FileNotFoundError: if the archive has no such file.
        RasterError: if the file cannot be read: it is encrypted, of an unknown compression, or damaged.
    """

    def __init__(self, archive: ZipArchive, name: str) -> None:
        self.href = f"{archive.href}!/{name}"
        self.is_local = archive.file.is_local
        self._archive = archive
        try:
            self._info = archive.zip.getinfo(name)
        except KeyError:
            raise FileNotFoundError(self.href) from None
        if self._info.flag_bits & _ENCRYPTED:
            raise RasterError(f"{shown(self.href)} is encrypted; an archive without a password was expected")
        if self._info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise RasterError(
                f"{shown(self.href)} has the compression {self._info.compress_type}; stored or deflated was expected"
            )
        self.size = self._info.file_size
        self._lock = threading.Lock()
        self._offset: int | None = None
        self._inflated: Any = None

    def read(self, start: int, length: int) -> bytes:
        """See `ByteReader.read`; reading a compressed file backwards inflates it from its beginning."""
        length = min(length, self.size - start)
        if length <= 0:
            return b""
        if self._info.compress_type == zipfile.ZIP_STORED:
            return self._archive.file.read(self._begin + start, length)
        with self._lock:
            try:
                self._inflated = self._inflated or self._archive.zip.open(self._info)
                self._inflated.seek(start)
                content: bytes = self._inflated.read(length)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise self._damaged(str(error)) from None
        return content

    def read_all(self, most: int = MAX_DOCUMENT_BYTES) -> bytes:
        """The content of a file of at most `most` bytes; raises TooLargeError."""
        Allowance(self.href, most).take(self.size)
        return b"".join(self._chunks())

    def save(self, path: str) -> None:
        """Copy the file to a local path; raises OSError, and as on opening."""
        with local_path(path).open("wb") as file:
            for chunk in self._chunks():
                file.write(chunk)

    @property
    def _begin(self) -> int:
        """Position of the first (compressed) byte in the archive."""
        if self._offset is None:
            header = self._archive.file.read(self._info.header_offset, _LOCAL_HEADER)
            if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
                raise self._damaged("there is no header at its position")
            name, extra = struct.unpack("<HH", header[26:30])
            self._offset = self._info.header_offset + _LOCAL_HEADER + name + extra
        return self._offset

    def _chunks(self) -> Iterator[bytes]:
        """The content, in parts; its checksum is verified at the end."""
        allowance, checksum = Allowance(self.href, self.size), 0
        try:
            for chunk in self._inflated_chunks():
                allowance.take(len(chunk))
                checksum = zlib.crc32(chunk, checksum)
                yield chunk
        except zlib.error as error:
            raise self._damaged(str(error)) from None
        if checksum != self._info.CRC:
            raise self._damaged("its checksum differs from that of the index")

    def _inflated_chunks(self) -> Iterator[bytes]:
        inflate = None
        if self._info.compress_type == zipfile.ZIP_DEFLATED:
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        position, end = self._begin, self._begin + self._info.compress_size
        while position < end:
            fetched = self._archive.file.read(position, min(_FETCH, end - position))
            if not fetched:
                raise self._damaged(f"the archive ends at byte {position}")
            position += len(fetched)
            if inflate is None:
                yield fetched
                continue
            for first in range(0, len(fetched), _FEED):
                yield inflate.decompress(fetched[first : first + _FEED])

    def _damaged(self, reason: str) -> RasterError:
        return RasterError(f"{shown(self.href)} is damaged: {reason}")


class _Seekable(io.RawIOBase):
    """A `ByteReader` as a file object. The end, where an archive has its index, is read once."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader, self._position = reader, 0
        self._tail_start = max(reader.size - _TAIL, 0)
        self._tail: bytes | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._reader.size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = len(buffer)
        if self._position >= self._tail_start:
            if self._tail is None:
                self._tail = self._reader.read(self._tail_start, _TAIL)
            first = self._position - self._tail_start
            content = self._tail[first : first + wanted]
        else:
            content = self._reader.read(self._position, wanted)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)


def local_archive(href: str) -> tuple[Path, str] | None:
    """Path of the archive and name in it, if the href is a member of an archive on a disk; else None."""
    parts = split_member(href)
    return (local_path(parts[0]), parts[1]) if parts and "://" not in parts[0].removeprefix("file://") else None
