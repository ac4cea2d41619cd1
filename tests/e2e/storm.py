"""Many processes fill one cube, and some of them are killed at a random moment and started again."""

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from typing import Any

import numpy as np
import obstore
from odc.geo.geobox import GeoBox

from darts_assets.cubes import CHUNK, ChunkData, Cube, arcticdem_spec, ensure
from darts_assets.cubes.history import ExpiredHistory
from darts_assets.stores.location import StoreLocation

SPEC = arcticdem_spec(10)
BLOCKS = (1, 2, 4)
"""Processes commit blocks of different sizes, so that commits are in conflict in a part of their chunks, too."""


def source(geobox: GeoBox) -> ChunkData:
    """A function of the coordinates alone: some 0.5 MB of elevations and a mask, after compression."""
    x = geobox.affine.c + (np.arange(CHUNK) + 0.5) * geobox.affine.a
    y = geobox.affine.f + (np.arange(CHUNK) + 0.5) * geobox.affine.e
    dem = (300 + 200 * np.sin(x / 300)[np.newaxis, :] + 100 * np.cos(y / 170)[:, np.newaxis]).astype("float32")
    return ChunkData({"dem": dem, "arcticdem_data_mask": (dem * 3 % 2 < 1).astype("uint8")}, ("function",), 1.0)


@dataclass
class Storm:
    """How it went.

    Attributes:
        kills: processes that were killed while they were filling.
        filled: chunks that the processes say they have filled; killed ones cannot say.
        seconds: from the moment that all of them begin.
    """

    kills: int = 0
    filled: list[str] = field(default_factory=list)
    seconds: float = 0.0


class _Process:
    """A process that fills; it tells what it is doing line by line."""

    def __init__(self, location: StoreLocation, keys: list[str], number: int, seed: int) -> None:
        self.said: list[str] = []
        self._news = threading.Condition()
        self._popen = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._popen.stdin
        place = {name: getattr(location, name) for name in ("url", "endpoint", "region")}
        job = {"location": place, "keys": keys, "block": BLOCKS[number % len(BLOCKS)], "seed": seed + number}
        self._popen.stdin.write(json.dumps(job) + "\n")
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def go(self) -> None:
        assert self._popen.stdin
        self._popen.stdin.write("go\n")

    def wait_for(self, word: str, times: int = 1) -> None:
        """Until it has said so, or is at an end."""
        with self._news:
            self._news.wait_for(lambda: self.count(word) >= times or self.count("END"))

    def count(self, word: str) -> int:
        return sum(line.startswith(word) for line in self.said)

    def kill(self) -> bool:
        """Whether it was filling, and not done."""
        self._popen.send_signal(signal.SIGKILL)
        return self.end() == -signal.SIGKILL and not self.count("done")

    def end(self) -> int:
        code = self._popen.wait()
        self._listener.join()
        return code

    def _listen(self) -> None:
        assert self._popen.stdout
        for line in chain(self._popen.stdout, ["END"]):
            with self._news:
                self.said.append(line.strip())
                self._news.notify_all()


def fill_with_kills(location: StoreLocation, keys: list[str], processes: int, victims: int, seed: int) -> Storm:
    """Let processes fill the same chunks; victims are killed at a random moment of the filling, and started again.

    Raises:
        AssertionError: if a process fails by itself.
    """
    moments = random.Random(seed)
    crew = [_Process(location, keys, number, seed) for number in range(processes)]
    for process in crew:
        process.wait_for("ready")
    storm = Storm()
    started = time.perf_counter()
    for process in crew:
        process.go()
    share = len(keys) // processes

    def kill(number: int, chunks: int, delay: float) -> None:
        crew[number].wait_for("reading", chunks)
        time.sleep(delay)
        storm.kills += crew[number].kill()
        crew[number] = _Process(location, keys, number, seed + processes)
        crew[number].go()

    killers = [
        threading.Thread(target=kill, args=(number, moments.randint(0, share), moments.uniform(0, 0.2)))
        for number in moments.sample(range(processes), victims)
    ]
    for killer in killers:
        killer.start()
    for killer in killers:
        killer.join()
    codes = [process.end() for process in crew]
    storm.seconds = time.perf_counter() - started
    assert codes == [0] * processes, codes
    storm.filled = [line.split()[1] for process in crew for line in process.said if line.startswith("filled")]
    return storm


def check_every_chunk(location: StoreLocation, keys: list[str]) -> None:
    """Nothing is missing, and every chunk equals its source."""
    cube = Cube(location, SPEC)
    assert cube.missing(keys) == []
    for key in keys:
        box = SPEC.grid.chunk_geobox(*SPEC.grid.parse(key))
        window, expected = cube.window(box), source(box).values
        np.testing.assert_allclose(window.dem, expected["dem"], atol=0.00502)
        np.testing.assert_array_equal(window.arcticdem_data_mask, expected["arcticdem_data_mask"])


def check_history(location: StoreLocation, keys: list[str]) -> None:
    """Every chunk was written by one commit."""
    repository = Cube(location, SPEC)._repository.open()
    assert repository is not None
    commits = [snapshot for snapshot in repository.ancestry(branch="main") if "chunks" in snapshot.metadata]
    assert Counter(key for commit in commits for key in commit.metadata["chunks"]) == dict.fromkeys(keys, 1)
    assert all(commit.message.startswith("created by run ") for commit in commits)


def check_expiry_leaves_what_is_needed(location: StoreLocation, keys: list[str]) -> ExpiredHistory:
    """Everything that the newest snapshot does not refer to can be collected, and nothing else is."""
    cube = Cube(location, SPEC)
    before = sizes(location)
    assert cube.expire(timedelta(days=1)) == ExpiredHistory(0, 0, 0)
    assert sizes(location) == before
    found = cube.expire(timedelta(0), alone=True)
    after = sizes(location)
    assert found.objects == len(before.keys() - after.keys())
    repository = Cube(location, SPEC)._repository.open()
    assert repository is not None
    assert sum(size for key, size in after.items() if key.startswith("chunks/")) == repository.total_chunks_storage()
    kinds = Counter(key.partition("/")[0] for key in after)
    newest = next(repository.ancestry(branch="main"))
    assert kinds["manifests"] == len(newest.manifests)
    assert (kinds["snapshots"], kinds["transactions"], kinds["refs"]) == (2, 1, 1)
    assert Cube(location, SPEC).missing(keys) == []
    return found


def sizes(location: StoreLocation) -> dict[str, int]:
    """Bytes of each object below a place; on a path, files that a writer has not finished included."""
    if location.is_local:
        files = (path for path in location.path.rglob("*") if path.is_file())
        return {path.relative_to(location.path).as_posix(): path.stat().st_size for path in files}
    return {entry["path"]: entry["size"] for batch in obstore.list(location.objects()) for entry in batch}


def _fill(job: dict[str, Any]) -> None:
    random.seed(job["seed"])  # the order of the blocks
    pauses = random.Random(job["seed"])

    def read(geobox: GeoBox) -> ChunkData:
        print("reading", flush=True)
        time.sleep(pauses.uniform(0.005, 0.05))
        return source(geobox)

    cube = Cube(StoreLocation(**job["location"]), SPEC)
    print("ready", flush=True)
    sys.stdin.readline()
    filled = ensure(cube, job["keys"], read, message=f"created by run {job['seed']}", workers=2, block=job["block"])
    for chunk in filled:
        print("filled", chunk.key, flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    _fill(json.loads(sys.stdin.readline()))
