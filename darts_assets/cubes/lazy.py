"""A window of a stored variable as a lazy array: slicing it reads and decodes only the chunks under the slice.

zarr's own reading would do, and gives the same values. It decodes into stored integers, which are then made floats in
passes over the whole window, and spends as long on each small chunk as the decompression takes. Here a chunk is
decompressed, scaled and put into its place while it is in the processor's cache, several at a time, while the next ones
are fetched.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
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
from darts_assets.cubes.grid import CHUNK
from darts_assets.cubes.spec import decode_into, fill_of
from darts_assets.errors import CubeError

_FETCHED = 64 << 20
"""Bytes of the chunks that are fetched at the same time, when they are decoded; they take about a third as they are."""


class _Buffers(threading.local):
    """A chunk's worth of memory by dtype, used again and again by a thread: fresh memory costs as much as decoding."""

    def __init__(self) -> None:
        self._held: dict[np.dtype[Any], npt.NDArray[Any]] = {}

    def of(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if dtype not in self._held:
            self._held[dtype] = np.empty((CHUNK, CHUNK), dtype=dtype)
        return self._held[dtype]


_buffers = _Buffers()


_SMALL = 512
"""Bytes below which a chunk is probably one value everywhere, such as a mask's."""


@lru_cache(maxsize=8)
def _uniform_or_whole(stored: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A small chunk, decoded; as a view of one value where it is the same everywhere."""
    chunk = np.empty((CHUNK, CHUNK), dtype=dtype)
    Blosc().decode(stored, chunk)
    return np.broadcast_to(chunk[0, 0], chunk.shape) if (chunk == chunk[0, 0]).all() else chunk


async def fetch(store: Store, names: list[str]) -> list[npt.NDArray[np.uint8] | None]:
    """The bytes of some objects of a store by their names, all at the same time; None for one that is not there."""
    prototype = default_buffer_prototype()
    found = await asyncio.gather(*(store.get(name, prototype) for name in names))
    return [None if one is None else one.as_numpy_array() for one in found]


class DecodedWindow(BackendArray):
    """Rows and columns of a stored variable, decoded when they are read.

    Args:
        store: a snapshot of the cube.
        variable: codec of the variable; its chunks are squares of 1024, compressed with Blosc.
        rows: pixel rows of the whole cube.
        cols: pixel columns of the whole cube.
        errors: translates what reading raises.
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
        at_once = _FETCHED // (CHUNK * CHUNK * self._variable.stored.itemsize)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="decode") as pool:
            for start in range(0, len(parts), at_once):
                batch = parts[start : start + at_once]
                names = [f"{self._variable.name}/c/{row.chunk}/{col.chunk}" for row, col in batch]
                # Those of the batch before are decoded meanwhile.
                for name, stored, (row, col) in zip(names, sync(fetch(self._store, names)), batch, strict=True):
                    into = values[row.wanted, col.wanted]
                    decoding.append(pool.submit(self._decode, name, stored, (row.own, col.own), into))
            for one in decoding:
                one.result()

    def _decode(
        self, name: str, stored: npt.NDArray[np.uint8] | None, part: tuple[slice, slice], into: npt.NDArray[Any]
    ) -> None:
        if stored is None:  # a chunk of nothing but fill is not stored
            into[...] = fill_of(self._variable)
            return
        try:
            if len(stored) <= _SMALL:
                decode_into(self._variable, _uniform_or_whole(stored.tobytes(), self._variable.stored)[part], into)
                return
            buffer = _buffers.of(self._variable.stored)
            Blosc().decode(stored, buffer)
        except (RuntimeError, ValueError) as error:
            raise CubeError(f"chunk {name} is damaged: {error}") from error
        decode_into(self._variable, buffer[part], into)


class _Part(NamedTuple):
    """Where a chunk and what is wanted meet, along one axis.

    Attributes:
        chunk: index of the chunk.
        own: pixels of the chunk that are wanted.
        wanted: where they belong.
    """

    chunk: int
    own: slice
    wanted: slice


def _parts(span: range) -> Iterator[_Part]:
    for chunk in range(span.start // CHUNK, -(-span.stop // CHUNK)):
        begin = chunk * CHUNK
        start, stop = max(span.start, begin), min(span.stop, begin + CHUNK)
        yield _Part(chunk, slice(start - begin, stop - begin), slice(start - span.start, stop - span.start))


def _span(picked: int | range) -> range:
    """The contiguous pixels that contain what is picked."""
    if isinstance(picked, int):
        return range(picked, picked + 1)
    return range(min(picked, default=0), max(picked, default=-1) + 1)
