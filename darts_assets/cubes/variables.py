"""The variables of a cube: specification, chunks, and windows as lazy arrays.

Slicing a window reads and decodes only the chunks under the slice. zarr's own reader returns the same values, but it
decodes into stored integers, which are converted to floats in passes over the whole window, and its overhead per small
chunk equals the decompression. Here a chunk is decompressed, scaled and copied while it is in the processor's cache,
several at a time, while the next ones are fetched.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc
from xarray.backends import BackendArray
from xarray.core import indexing
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from darts_assets.bands import Band
from darts_assets.cubes.grid import CHUNK, CubeGrid
from darts_assets.errors import CubeError

_CACHED_ROWS = 256
"""Rows of a chunk that are decoded at once, so that they stay in the processor's cache between passes."""

_FETCHED = 64 << 20
"""Decoded bytes of the chunks that are fetched at the same time; stored they take about a third."""

_SMALL = 512
"""Stored bytes below which a chunk probably has one value everywhere, as in a mask."""


@dataclass(frozen=True)
class CubeSpec:
    """A kind of cube.

    Attributes:
        name: such as `arcticdem_10m` or `tcvis_2024`.
        grid: chunk grid.
        variables: codecs; scaled ones are clipped to their valid range when loaded, not when stored.
        title: title for people.
        source: source of the data, for people.
    """

    name: str
    grid: CubeGrid
    variables: tuple[Band, ...]
    title: str = ""
    source: str = ""

    def fill_of(self, variable: Band) -> int:
        """Stored value of pixels without data."""
        return 0 if variable.fill is None else variable.fill

    def layout(self) -> dict[str, Any]:
        """The part of the specification that must not change during the life of a cube, as JSON types."""
        return {
            "cube": self.name,
            "crs": str(self.grid.geobox.crs),
            "transform": list(self.grid.geobox.affine)[:6],
            "shape": [int(n) for n in self.grid.geobox.shape],
            "chunk": CHUNK,
            "variables": {v.name: [str(v.stored), v.scale, v.offset, self.fill_of(v)] for v in self.variables},
        }


@dataclass(frozen=True)
class ChunkData:
    """One chunk as read from its source.

    Attributes:
        values: variable -> (1024, 1024) array of physical values, row 0 at the top.
        sources: ids of the origins of the values, in order of precedence; empty for a chunk without data.
        fill_fraction: fraction of pixels with data, 0 to 1.
    """

    values: Mapping[str, npt.NDArray[Any]]
    sources: tuple[str, ...] = ()
    fill_fraction: float = 0.0


async def fetch(store: Store, names: list[str]) -> list[npt.NDArray[np.uint8] | None]:
    """Contents of several objects of a store, fetched concurrently; None for missing ones."""
    prototype = default_buffer_prototype()
    buffers = await asyncio.gather(*(store.get(name, prototype) for name in names))
    return [None if buffer is None else buffer.as_numpy_array() for buffer in buffers]


class DecodedWindow(BackendArray):
    """A window of a stored variable, decoded when it is read.

    Args:
        store: a snapshot of the cube.
        variable: codec of the variable; its chunks are squares of 1024, compressed with Blosc.
        rows: pixel rows of the whole cube.
        cols: pixel columns of the whole cube.
        errors: context that translates the errors of reading.
    """

    def __init__(
        self, store: Store, variable: Band, rows: slice, cols: slice, errors: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._store = store
        self._variable = variable
        self._errors = errors
        self._ranges = range(rows.start, rows.stop), range(cols.start, cols.stop)
        self.shape = tuple(len(r) for r in self._ranges)
        self.dtype = variable.memory

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> npt.NDArray[Any]:
        picked = [own[k] for own, k in zip(self._ranges, key, strict=True)]
        rows, cols = (_span(p) for p in picked)
        values = np.empty((len(rows), len(cols)), dtype=self.dtype)
        with self._errors():
            self._read_into(values, [(row, col) for row in _parts(rows) for col in _parts(cols)])
        return values[tuple(0 if isinstance(p, int) else slice(None, None, p.step) for p in picked)]

    def _read_into(self, values: npt.NDArray[Any], parts: "list[tuple[_Part, _Part]]") -> None:
        decoding: list[Future[None]] = []
        batch_size = _FETCHED // (CHUNK * CHUNK * self._variable.stored.itemsize)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode") as pool:
            for start in range(0, len(parts), batch_size):
                batch = parts[start : start + batch_size]
                names = [f"{self._variable.name}/c/{row.chunk}/{col.chunk}" for row, col in batch]
                # The previous batch is decoded during the fetch.
                for name, stored, (row, col) in zip(names, sync(fetch(self._store, names)), batch, strict=True):
                    into = values[row.window, col.window]
                    decoding.append(pool.submit(self._decode, name, stored, (row.own, col.own), into))
            for future in decoding:
                future.result()

    def _decode(
        self, name: str, stored: npt.NDArray[np.uint8] | None, part: tuple[slice, slice], into: npt.NDArray[Any]
    ) -> None:
        if stored is None:  # chunks without data are not stored
            into[...] = 0.0 if self._variable.scale is None else np.nan
            return
        try:
            if len(stored) <= _SMALL:
                _decode_into(self._variable, _uniform_or_whole(stored.tobytes(), self._variable.stored)[part], into)
                return
            buffer = _buffers.of(self._variable.stored)
            Blosc().decode(stored, buffer)
        except (RuntimeError, ValueError) as error:
            raise CubeError(f"chunk {name} is damaged: {error}") from error
        _decode_into(self._variable, buffer[part], into)


class _Buffers(threading.local):
    """One chunk-sized buffer per dtype and thread, reused: allocating memory takes as long as decoding."""

    def __init__(self) -> None:
        self._held: dict[np.dtype[Any], npt.NDArray[Any]] = {}

    def of(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if dtype not in self._held:
            self._held[dtype] = np.empty((CHUNK, CHUNK), dtype=dtype)
        return self._held[dtype]


_buffers = _Buffers()


@lru_cache(maxsize=8)
def _uniform_or_whole(stored: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A decoded small chunk; a broadcast view if it has one value everywhere."""
    chunk = np.empty((CHUNK, CHUNK), dtype=dtype)
    Blosc().decode(stored, chunk)
    return np.broadcast_to(chunk[0, 0], chunk.shape) if (chunk == chunk[0, 0]).all() else chunk


def _decode_into(variable: Band, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    """Decode stored values (rows, columns) into `values`: scaled ones clipped to the valid range, fill as NaN."""
    if variable.scale is None:
        np.copyto(values, stored, casting="unsafe")
        return
    for row in range(0, len(stored), _CACHED_ROWS):
        _scale_into(variable, stored[row : row + _CACHED_ROWS], values[row : row + _CACHED_ROWS])


def _scale_into(variable: Band, stored: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    assert variable.scale is not None
    np.multiply(stored, np.float32(variable.scale), out=values, dtype=np.float32, casting="unsafe")
    if variable.offset:
        values += np.float32(variable.offset)
    # Most blocks are within the limits and complete; the minimum and maximum cost less than clipping and comparing.
    least, most = int(stored.min()), int(stored.max())
    low, high = variable.valid
    if variable.offset + least * variable.scale < low or variable.offset + most * variable.scale > high:
        np.clip(values, low, high, out=values)
    if variable.fill is not None and least <= variable.fill <= most:
        values[stored == variable.fill] = np.nan


class _Part(NamedTuple):
    """The intersection of a chunk and the window, along one axis.

    Attributes:
        chunk: index of the chunk.
        own: its pixels within the chunk.
        window: its pixels within the window.
    """

    chunk: int
    own: slice
    window: slice


def _parts(span: range) -> Iterator[_Part]:
    for chunk in range(span.start // CHUNK, -(-span.stop // CHUNK)):
        begin = chunk * CHUNK
        start, stop = max(span.start, begin), min(span.stop, begin + CHUNK)
        yield _Part(chunk, slice(start - begin, stop - begin), slice(start - span.start, stop - span.start))


def _span(picked: int | range) -> range:
    """The contiguous pixels that contain the picked ones."""
    if isinstance(picked, int):
        return range(picked, picked + 1)
    return range(min(picked, default=0), max(picked, default=-1) + 1)
