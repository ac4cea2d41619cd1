"""16 processes fill 200 chunks of one cube, four of them are killed and started again: nothing is lost.

`pytest -n 0 -s tests/benchmarks/bench_concurrent_fill.py`; five to ten minutes on two cores, 5 GB of memory.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from darts_assets.stores.location import StoreLocation
from tests.e2e.storm import (
    SPEC,
    check_every_chunk,
    check_expiry_leaves_what_is_needed,
    check_history,
    fill_with_kills,
    sizes,
)
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

PROCESSES, VICTIMS = 16, 4
KEYS = [SPEC.grid.key(100 + row, 200 + col) for row in range(10) for col in range(20)]


@pytest.fixture
def on_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield server.location("darts", "aux", "cube.icechunk")
    server.stop()


@pytest.fixture(params=["local disk", "moto S3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> StoreLocation:
    if request.param == "moto S3":
        return request.getfixturevalue("on_s3")
    return StoreLocation(str(tmp_path / "aux" / "cube.icechunk"))


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_writers_lose_nothing(location: StoreLocation, seed: int, machine: str) -> None:
    storm = fill_with_kills(location, KEYS, PROCESSES, VICTIMS, seed)
    stored = sum(sizes(location).values())
    assert storm.kills > 0
    assert len(set(storm.filled)) == len(storm.filled)
    check_every_chunk(location, KEYS)
    check_history(location, KEYS)
    expired = check_expiry_leaves_what_is_needed(location, KEYS)
    check_every_chunk(location, KEYS)
    print(
        f"\n{machine}; {PROCESSES} processes, {len(KEYS)} chunks, "
        f"{'local disk' if location.is_local else 'moto S3'}, seed {seed}\n"
        "| seconds | chunks/s | killed while filling | commits | MB stored | MB after expiry |\n"
        f"| {storm.seconds:7.1f} | {len(KEYS) / storm.seconds:8.1f} | {storm.kills:13} of {VICTIMS:3} "
        f"| {expired.snapshots:7} | {stored / 1e6:9.1f} | {(stored - expired.bytes) / 1e6:15.1f} |"
    )
