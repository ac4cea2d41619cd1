"""Filling the missing chunks of a cube, in blocks of neighbours; each block is committed as soon as it is read."""

import logging
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field

from odc.geo.geobox import GeoBox

from darts_assets.cubes.cube import Cube
from darts_assets.cubes.variables import ChunkData
from darts_assets.errors import ChunksFailedError, DartsError, MissingChunksError, SourceUnavailableError
from darts_assets.plots import chunk_picture
from darts_assets.true_colour import Pixels

logger = logging.getLogger(__name__)

ReadChunk = Callable[[GeoBox], ChunkData]
"""Reads a chunk from its source; called from several threads at once."""

Progress = Callable[[int, int], None]
"""Called with the number of chunks done and of all missing ones."""


@dataclass(frozen=True, slots=True)
class FilledChunk:
    """A chunk filled by this process.

    Attributes:
        key: its partition key.
        sources: ids of the origins of its values.
        fill_fraction: fraction of pixels with data, 0 to 1.
        bytes: compressed size in the cube.
        seconds: time to read it from the source and to write it.
        snapshot: the first snapshot that has it.
        picture: preview, RGB (128, 128, 3).
    """

    key: str
    sources: tuple[str, ...]
    fill_fraction: float
    bytes: int
    seconds: float
    snapshot: str
    picture: Pixels = field(repr=False, compare=False)


def ensure(
    cube: Cube,
    keys: Iterable[str],
    read_chunk: ReadChunk,
    *,
    message: str,
    offline: bool = False,
    workers: int = 4,
    block: int = 4,
    progress: Progress | None = None,
) -> list[FilledChunk]:
    """Fill the missing ones of `keys`; other processes may fill the same ones at the same time.

    A thread reads neighbouring chunks one after the other and commits them together: source files are opened once and
    their pixels decoded once, and there are fewer commits. A killed process loses only the blocks in progress.

    Args:
        cube: the cube.
        keys: partition keys of the chunks to fill.
        read_chunk: reads one chunk from the source.
        message: commit message besides the keys, such as the id of the run.
        offline: do not access the source.
        workers: concurrent blocks; up to 10 MB of memory for each of their chunks.
        block: side of the largest square of chunks that are read and committed together; 1 if neighbouring chunks share
            no source file.
        progress: called after each block, in the caller's thread.

    Returns:
        The chunks filled by this process, in the order of `keys`; without those that existed or that others filled.

    Raises:
        MissingChunksError: offline, if any chunk is missing; all of them are listed.
        ChunksFailedError: if chunks could not be read; the others are filled. If the source's service does not answer,
            remaining chunks are not tried.
        StoreError: if the store fails; earlier commits stay.
    """
    keys = list(dict.fromkeys(keys))
    missing = cube.missing(keys)
    if not missing:
        return []
    if offline:
        raise MissingChunksError(cube.spec.name, missing)
    cube.create()  # an unsafe store is rejected before anything is fetched
    blocks = _blocks(cube, missing, block, workers)
    # Concurrent processes with the same keys should not fetch the same blocks in the same order.
    random.shuffle(blocks)
    work = _Work(cube, read_chunk, message)
    filled: dict[str, FilledChunk] = {}
    tried = 0
    with ThreadPoolExecutor(workers, thread_name_prefix="chunks") as pool:
        running = [pool.submit(work.fill, keys_of_block) for keys_of_block in blocks]
        try:
            for done in as_completed(running):
                chunks, n = done.result()
                filled |= {chunk.key: chunk for chunk in chunks}
                tried += n
                logger.info(
                    "%s: %d of %d chunks done, %d filled, %d failed",
                    cube.spec.name, tried, len(missing), len(filled), len(work.failed),
                )  # fmt: skip
                if progress:
                    progress(tried, len(missing))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # blocks in progress are still written
            raise
    in_order = [filled[key] for key in keys if key in filled]
    if work.failed:
        raise ChunksFailedError(cube.spec.name, {k: work.failed[k] for k in keys if k in work.failed}, in_order)
    return in_order


class _Work:
    """Fills blocks in several threads; stops reading once the source's service does not answer."""

    def __init__(self, cube: Cube, read_chunk: ReadChunk, message: str) -> None:
        self.cube = cube
        self.read_chunk = read_chunk
        self.message = message
        self.failed: dict[str, DartsError] = {}
        self.ended: SourceUnavailableError | None = None

    def fill(self, keys: list[str]) -> tuple[list[FilledChunk], int]:
        """Read and commit the missing chunks of a block; returns the filled chunks and the size of the block."""
        grid = self.cube.spec.grid
        read: dict[str, ChunkData] = {}
        seconds: dict[str, float] = {}
        for key in self.cube.missing(keys):
            started = time.perf_counter()
            try:
                if self.ended is not None:
                    raise self.ended
                read[key] = self.read_chunk(grid.chunk_geobox(*grid.parse(key)))
            except SourceUnavailableError as error:
                self.ended = self.failed[key] = error
            except DartsError as error:
                self.failed[key] = error
            seconds[key] = time.perf_counter() - started
        started = time.perf_counter()
        snapshots = self.cube.write(read, self.message) if read else {}
        sizes = self.cube.stored_bytes(snapshots)
        writing = (time.perf_counter() - started) / max(len(read), 1)
        chunks = [
            FilledChunk(
                key=key,
                sources=read[key].sources,
                fill_fraction=read[key].fill_fraction,
                bytes=sizes[key],
                seconds=round(seconds[key] + writing, 3),
                snapshot=snapshot,
                picture=chunk_picture(read[key].values),
            )
            for key, snapshot in snapshots.items()
        ]
        return chunks, len(keys)


def _blocks(cube: Cube, keys: list[str], side: int, workers: int) -> list[list[str]]:
    """Keys grouped by squares of `side` chunks; by smaller ones if there were fewer squares than workers."""
    while True:
        blocks: dict[tuple[int, int], list[str]] = {}
        for key in keys:
            row, col = cube.spec.grid.parse(key)
            blocks.setdefault((row // side, col // side), []).append(key)
        if side == 1 or len(blocks) >= workers:
            return list(blocks.values())
        side //= 2
