"""Bytes of files: ranges and sizes."""

import pytest

from darts_assets.errors import SourceUnavailableError
from darts_assets.remote.byte_reader import ByteReader, read_bytes
from tests.servers.network.file_server import serve_folder


@pytest.mark.parametrize("size", [100, 200_000])
def test_ranges(tmp_path, size):
    content = bytes(n % 251 for n in range(size))
    (tmp_path / "a.bin").write_bytes(content)
    with serve_folder(tmp_path) as url:
        for href in (str(tmp_path / "a.bin"), f"{url}/a.bin"):
            reader = ByteReader(href)
            assert reader.size == size
            assert reader.is_local == ("://" not in href)
            assert reader.read(10, 20) == content[10:30]
            assert reader.read(size - 5, 20) == content[-5:]
            assert reader.read(size, 1) == b""
            assert read_bytes(href) == content
        with pytest.raises(FileNotFoundError):
            ByteReader(f"{url}/none.bin")


def test_a_service_that_is_down_is_unavailable(tmp_path, monkeypatch):
    monkeypatch.setattr("darts_assets.remote.retry.UNREACHABLE_SECONDS", 0.0)
    with pytest.raises(
        SourceUnavailableError, match=r"^http://127\.0\.0\.1:9/a\?\*\*\* cannot be read: 127\.0.* refused"
    ):
        ByteReader("http://127.0.0.1:9/a?sig=SECRET")
