"""Filling chunks: exactly the missing ones are read, a few at a time, each committed as soon as it is read."""

import logging
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from odc.geo.geobox import GeoBox

from darts_assets.cubes.cube import Cube
from darts_assets.cubes.spec import ChunkData
from darts_assets.errors import MissingChunksError

logger = logging.getLogger(__name__)

ReadChunk = Callable[[GeoBox], ChunkData]
"""Reads a chunk from its source; called from several threads at once."""


@dataclass(frozen=True, slots=True)
class FilledChunk:
    """A chunk that this process has filled.

    Attributes:
        key: its partition key.
        sources: ids of what its values come from.
        fill_fraction: share of pixels with data, 0 to 1.
        bytes: compressed size in the cube.
        seconds: time to read it from the source and to write it.
        snapshot: the snapshot that holds it first.
    """

    key: str
    sources: tuple[str, ...]
    fill_fraction: float
    bytes: int
    seconds: float
    snapshot: str


def ensure(
    cube: Cube,
    keys: Iterable[str],
    read_chunk: ReadChunk,
    *,
    message: str,
    offline: bool = False,
    workers: int = 4,
) -> list[FilledChunk]:
    """Fill those of `keys` that are missing; other processes may fill the same ones at the same time.

    Every chunk is a commit of its own, so a process that dies loses the chunks it was at, no more.

    Args:
        cube: which cube.
        keys: partition keys that must be filled afterwards.
        read_chunk: reads one chunk from the source.
        message: what the commits say beside the key, such as the run that fills the chunks.
        offline: do not touch the source.
        workers: chunks read and written at once; about 30 MB of memory each.

    Returns:
        What this process has filled, in the order of `keys`; not what was there, or what others filled meanwhile.

    Raises:
        MissingChunksError: offline, if any chunk is missing; all of them are listed.
        DartsError: what `read_chunk` or the store raise; chunks that were committed before stay.
    """
    keys = list(dict.fromkeys(keys))
    missing = cube.missing(keys)
    if not missing:
        return []
    if offline:
        raise MissingChunksError(cube.spec.name, missing)
    cube.create()  # a store that is not safe is refused before anything is fetched
    # Processes with the same work would otherwise fetch the same chunk at the same time, one after the other.
    order = random.sample(missing, len(missing))
    done: dict[str, FilledChunk] = {}
    with ThreadPoolExecutor(workers, thread_name_prefix="chunk") as pool:
        chunks = [pool.submit(_fill, cube, key, read_chunk, message) for key in order]
        try:
            for finished, chunk in enumerate(as_completed(chunks), 1):
                filled = chunk.result()
                if filled is not None:
                    done[filled.key] = filled
                logger.info("%s: filled %d of %d chunks", cube.spec.name, finished, len(missing))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # chunks under way are still written
            raise
    return [done[key] for key in keys if key in done]


def _fill(cube: Cube, key: str, read_chunk: ReadChunk, message: str) -> FilledChunk | None:
    """Read and write one chunk; None if somebody else has filled it since we looked."""
    started = time.perf_counter()
    if not cube.missing([key]):
        return None
    data = read_chunk(cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key)))
    snapshot = cube.write(key, data.values, message, data.sources)
    if snapshot is None:
        return None
    seconds = round(time.perf_counter() - started, 3)
    return FilledChunk(key, data.sources, data.fill_fraction, cube.stored_bytes([key])[key], seconds, snapshot)
