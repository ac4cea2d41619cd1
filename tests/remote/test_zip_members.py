"""Members of zip archives, stored and compressed, on a disk and on a web server."""

import random
import zipfile
from pathlib import Path

import pytest

from darts_assets.errors import RasterError, TooLargeError
from darts_assets.remote.byte_reader import ByteReader
from darts_assets.remote.gdal_options import gdal_path
from darts_assets.remote.zip_members import ZipArchive, open_reader, split_member
from tests.servers.network.file_server import serve_folder

CONTENT = random.Random(3).randbytes(300_000) + bytes(200_000)


def archive(folder: Path, compression: int) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("in/first.txt", b"first")
        file.writestr("in/band.jp2", CONTENT)
    return path


def test_hrefs() -> None:
    assert split_member("/a/X.SAFE.zip!/in/b.jp2") == ("/a/X.SAFE.zip", "in/b.jp2")
    assert split_member("s3://bucket/X.ZIP!/b.jp2") == ("s3://bucket/X.ZIP", "b.jp2")
    assert split_member("/a/X.SAFE.zip") is None
    assert split_member("/a!/b.jp2") is None
    assert gdal_path("/a b/X.zip!/in/b.jp2") == "/vsizip/{/a b/X.zip}/in/b.jp2"
    assert gdal_path("s3://bucket/b.jp2") == "/vsis3/bucket/b.jp2"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_ranges_are_those_of_the_member(tmp_path: Path, compression: int) -> None:
    path = archive(tmp_path, compression)
    with serve_folder(tmp_path) as url:
        for href in (f"{path}!/in/band.jp2", f"{url}/a.zip!/in/band.jp2"):
            reader = open_reader(href)
            assert isinstance(reader, ByteReader)
            assert (reader.size, reader.href, reader.is_local) == (len(CONTENT), href, href.startswith("/"))
            for start, length in ((0, 12), (299_990, 20), (100, 70_000), (len(CONTENT) - 2, 9), (len(CONTENT), 5)):
                assert reader.read(start, length) == CONTENT[start : start + length]
            reader.save(str(tmp_path / "copy"))
            assert (tmp_path / "copy").read_bytes() == CONTENT


def test_only_the_index_and_the_member_are_requested(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for number in range(20):
            file.writestr(f"{number}.bin", bytes(1 << 20))
    requests: list[str] = []
    with serve_folder(tmp_path, requests) as url:
        open_reader(f"{url}/a.zip!/7.bin").save(str(tmp_path / "copy"))
        # The head of the archive, its index, the header of the member, its bytes.
        assert len(requests) == 4
    assert (tmp_path / "copy").stat().st_size == 1 << 20


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(RasterError, match=r"a\.zip is not a complete zip archive \(File is not a zip file\)"):
        ZipArchive(str(tmp_path / "a.zip"))
    path = archive(tmp_path, zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(RasterError, match="the download may have been interrupted"):
        open_reader(f"{path}!/in/band.jp2")


def test_a_damaged_member(tmp_path: Path) -> None:
    path = archive(tmp_path, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[100_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(RasterError, match=r"in/band\.jp2 is damaged: its checksum differs"):
        open_reader(f"{path}!/in/band.jp2").save(str(tmp_path / "copy"))
    with pytest.raises(FileNotFoundError):
        open_reader(f"{path}!/in/none.jp2")


def test_a_member_that_inflates_to_more_than_the_index_states(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("big.xml", bytes(50_000_000))
    content = path.read_bytes()
    size = (50_000_000).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (1000).to_bytes(4, "little")))
    archive = ZipArchive(str(path))
    with pytest.raises(TooLargeError, match=r"big\.xml has more than 1000 bytes"):
        archive.member("big.xml").read_all()
    path.write_bytes(content)
    with pytest.raises(TooLargeError, match="more than 4000000 bytes"):
        ZipArchive(str(path)).member("big.xml").read_all(4_000_000)
