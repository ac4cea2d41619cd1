"""Completeness of JPEG 2000 files, by their structure.

Decoders may return zeros or garbage for a truncated file, so files are checked before they are decoded. Boxes are
defined in ISO/IEC 15444-1 Annex I, markers in Annex A. The codestream of Sentinel-2 files has no declared length (box
length 0: to the end of the file), so the boxes alone are not sufficient.
"""

import struct
from math import ceil

from darts_assets.remote.byte_reader import ByteReader

_SIGNATURES = (b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_SOC, _SIZ, _SOT, _EOC = 0xFF4F, 0xFF51, 0xFF90, 0xFFD9
_SOT_SEGMENT = 12


def is_jpeg2000(reader: ByteReader) -> bool:
    """Whether the file starts like a JP2 file or a bare JPEG 2000 codestream."""
    return reader.read(0, 12).startswith(_SIGNATURES)


def missing_part(reader: ByteReader) -> str | None:
    """The part that a JPEG 2000 file lacks, as a clause; None if the file is complete.

    The end of the codestream is always checked. The chain of tile-parts is followed in local files only, where an
    interrupted download may have left a hole; remotely each link would be a request, and objects have no holes.

    Raises:
        SourceUnavailableError: if a remote file cannot be read.
    """
    if reader.read(0, 2) == _SIGNATURES[1][:2]:
        start, end = 0, reader.size
    else:
        codestream = _codestream(reader)
        if isinstance(codestream, str):
            return codestream
        start, end = codestream
    if end - start < 2 or reader.read(end - 2, 2) != _EOC.to_bytes(2):
        return f"the codestream does not end with its end marker at byte {end}"
    return _missing_tile_part(reader, start, end) if reader.is_local else None


def _codestream(reader: ByteReader) -> tuple[int, int] | str:
    """Start and end (exclusive) of the codestream in bytes, or the fault of the boxes as a clause."""
    position, codestream = 0, None
    while position < reader.size:
        header = reader.read(position, 16)
        if len(header) < 8:
            return f"it ends within the header of a box at byte {position}"
        length, kind = struct.unpack(">I4s", header[:8])
        header_length = 8
        if length == 1 and len(header) == 16:
            (length,), header_length = struct.unpack(">Q", header[8:]), 16
        end = reader.size if length == 0 else position + length
        name = kind.decode("latin-1")
        if end < position + header_length:
            return f"box {name!r} at byte {position} has the impossible length {length}"
        if end > reader.size:
            return f"box {name!r} extends to byte {end}, the file has {reader.size} bytes"
        if kind == b"jp2c":
            codestream = position + header_length, end
        position = end
    return codestream or f"the file has {reader.size} bytes and no codestream"


def _missing_tile_part(reader: ByteReader, start: int, end: int) -> str | None:
    header = _main_header(reader, start, end)
    if header is None:
        return f"the codestream's main header, from byte {start} on, is damaged"
    position, tile_count = header
    seen: set[int] = set()
    while position < end - 2:
        segment = reader.read(position, _SOT_SEGMENT)
        if len(segment) < _SOT_SEGMENT or int.from_bytes(segment[:2]) != _SOT:
            return f"a tile-part was expected at byte {position}, after {len(seen)} of {tile_count} tiles"
        tile, length = struct.unpack(">HI", segment[4:10])
        seen.add(tile)
        # Length 0 is allowed for the last tile-part: up to the end marker.
        position = end - 2 if length == 0 else position + max(length, _SOT_SEGMENT)
    if position > end - 2:
        return f"a tile-part extends to byte {position}, the codestream ends at byte {end}"
    return None if len(seen) == tile_count else f"it has {len(seen)} of {tile_count} tiles"


def _main_header(reader: ByteReader, start: int, end: int) -> tuple[int, int] | None:
    """Position of the first tile-part, and number of tiles; None if damaged."""
    if int.from_bytes(reader.read(start, 2)) != _SOC:
        return None
    position, tile_count = start + 2, 0
    while position < end:
        marker, length = struct.unpack(">HH", reader.read(position, 4).ljust(4, b"\0"))
        if marker == _SOT:
            return (position, tile_count) if tile_count else None
        if marker == _SIZ:
            tile_count = _tile_count(reader.read(position + 6, 32))
        if marker < 0xFF00 or length < 2:
            return None
        position += 2 + length
    return None


def _tile_count(sizes: bytes) -> int:
    x, y, _, _, tile_x, tile_y, tile_x0, tile_y0 = struct.unpack(">8I", sizes.ljust(32, b"\0"))
    if not tile_x or not tile_y:
        return 0
    return ceil((x - tile_x0) / tile_x) * ceil((y - tile_y0) / tile_y)
