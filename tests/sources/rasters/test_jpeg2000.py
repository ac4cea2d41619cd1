import struct
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from darts_assets.remote.byte_reader import ByteReader
from darts_assets.sources.rasters.jpeg2000 import is_jpeg2000, missing_part


def missing_of(path: Path, content: bytes) -> str | None:
    path.write_bytes(content)
    source = ByteReader(str(path))
    assert is_jpeg2000(source)
    return missing_part(source)


def box(kind: bytes, content: bytes, form: str) -> bytes:
    if form == "to the end":
        return struct.pack(">I4s", 0, kind) + content
    if form == "extended":
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


@pytest.fixture(scope="module")
def codestream_of(shared) -> tuple[bytes, bytes]:
    """The boxes before the codestream and the codestream of the real file."""
    (path,) = (shared / "data" / "eodag_products").rglob("*_B01.jp2")
    content = path.read_bytes()
    start = content.index(b"jp2c")
    return content[: start - 4], content[start + 4 :]


def test_real_file_is_complete(real_jp2):
    assert missing_part(ByteReader(str(real_jp2))) is None


@pytest.mark.parametrize("form", ["normal", "extended", "to the end"])
def test_all_forms_of_boxes(tmp_path, codestream_of, form):
    boxes, codestream = codestream_of
    whole = boxes + box(b"jp2c", codestream, form)
    assert missing_of(tmp_path / "a.jp2", whole) is None
    assert missing_of(tmp_path / "a.jp2", whole[:-1]) is not None
    if form != "to the end":
        assert missing_of(tmp_path / "a.jp2", whole + box(b"xml ", b"<x/>", "normal")) is None
        assert "'jp2c' extends to byte" in str(missing_of(tmp_path / "a.jp2", whole[:-100]))


def test_bare_codestream(tmp_path, codestream_of):
    assert missing_of(tmp_path / "a.j2k", codestream_of[1]) is None
    assert missing_of(tmp_path / "a.j2k", codestream_of[1][:-2]) is not None


@pytest.mark.parametrize("keep", [20, 40, 100, 1925, 2100, 2125, 0.1, 0.5, 0.9, -1, -2, -3])
def test_truncations(tmp_path, real_jp2, keep):
    content = real_jp2.read_bytes()
    length = int(keep * len(content)) if isinstance(keep, float) else keep
    assert missing_of(tmp_path / "cut.jp2", content[:length]) is not None


def test_hole_in_the_middle_with_an_intact_end(tmp_path, real_jp2):
    content = bytearray(real_jp2.read_bytes())
    content[1_000_000:1_100_000] = bytes(100_000)
    assert "a tile-part was expected at byte" in str(missing_of(tmp_path / "a.jp2", bytes(content)))
    del content[1_000_000:1_100_000]
    assert missing_of(tmp_path / "a.jp2", bytes(content)) is not None


def test_missing_last_tiles_with_an_end_marker(tmp_path, real_jp2):
    content = real_jp2.read_bytes()
    assert missing_of(tmp_path / "a.jp2", content[:129051] + b"\xff\xd9") == "it has 3 of 100 tiles"


def test_damaged_structures(tmp_path, codestream_of):
    boxes, codestream = codestream_of
    assert "impossible length" in str(missing_of(tmp_path / "a.jp2", boxes[:32] + struct.pack(">I4s", 3, b"jp2h")))
    assert "no codestream" in str(missing_of(tmp_path / "a.jp2", boxes))
    broken = codestream[:4] + bytes(50) + codestream[54:]
    assert missing_of(tmp_path / "a.jp2", boxes + box(b"jp2c", broken, "normal")) is not None


@pytest.mark.parametrize("options", [{}, {"TILE_PARTS": "RESOLUTIONS"}, {"CODEC": "J2K"}, {"TLM": "YES"}])
def test_files_of_other_writers_are_complete(tmp_path, options):
    path = tmp_path / ("a.j2k" if "CODEC" in options else "a.jp2")
    values = np.arange(300 * 200, dtype=np.uint16).reshape(1, 300, 200)
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", width=200, height=300, count=1, dtype="uint16", crs="EPSG:32608",
        transform=Affine(10, 0, 5e5, 0, -10, 7.5e6), blockxsize=128, blockysize=128, **options,
    ) as file:  # fmt: skip
        file.write(values)
    assert missing_part(ByteReader(str(path))) is None


def test_other_formats_are_not_jpeg2000(made):
    assert not is_jpeg2000(ByteReader(str(made.path("B02_10m"))))
