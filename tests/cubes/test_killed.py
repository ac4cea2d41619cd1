"""Processes that are killed while they fill a cube lose nothing but their own time.

`tests/benchmarks/bench_concurrent_fill.py` does the same with 16 processes and 200 chunks.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from darts_assets.stores.location import StoreLocation
from tests.e2e.storm import SPEC, check_every_chunk, check_expiry_leaves_what_is_needed, check_history, fill_with_kills
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow

KEYS = [SPEC.grid.key(100 + row, 200 + col) for row in range(4) for col in range(4)]


@pytest.fixture
def on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield server.location("darts", "aux", "cube.icechunk")
    server.stop()


@pytest.fixture(params=["disk", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    if request.param == "s3":
        return request.getfixturevalue("on_s3")
    return StoreLocation(str(tmp_path / "aux" / "cube.icechunk"))


@pytest.mark.slow
def test_killed_writers_lose_nothing(location: StoreLocation) -> None:
    storm = fill_with_kills(location, KEYS, processes=4, victims=2, seed=11)
    assert storm.kills > 0
    assert len(set(storm.filled)) == len(storm.filled)  # a chunk is filled by one process
    check_every_chunk(location, KEYS)
    check_history(location, KEYS)
    found = check_expiry_leaves_what_is_needed(location, KEYS)
    assert found.snapshots > 5
    assert found.objects > 10
    check_every_chunk(location, KEYS)
