"""How a band of a tile is stored: chunks of 512 x 512 in shards of one row of chunks, LZ4 with bits shuffled.

The layout was chosen by measurement on two cores, on 17 bands of 4096 x 4096 of the demo and on Sentinel-2's red, green
and near infrared. Compression of one core, in 512 x 512 chunks, bitshuffled unless said otherwise:

| codec | MB/s in | MB/s out | of the bytes (demo, Sentinel-2) |
|---|---|---|---|
| Blosc LZ4, level 5 | 794 | 1319 | 54 %, 66 % |
| Blosc LZ4 HC, level 5 | 62 | 1470 | 51 %, 63 % |
| Blosc zstd, level 1 | 456 | 765 | 49 %, 64 % |
| Blosc zstd, level 3 | 287 | 802 | 49 %, 63 % |
| Blosc zstd, level 3, bytes shuffled | 186 | 1060 | 46 %, 61 % |
| zstd, level 3, no shuffling | 165 | 885 | 54 %, 72 % |

LZ4 takes a tenth more space than zstd and half of its time, which a step that reads 16 bands for a GPU would wait for.
Chunks of 256 or 1024 compress alike; of 256 take twice the time, because Zarr spends as long on a chunk as its
decompression takes; of 1024 make windows of 1024 rows. A shard is a row of chunks: a full scene is 400 objects, not
8200. On S3, 17 bands of 2048 x 2048 take 98 PUTs (302 without shards) and 68 GETs by rows (272); four patches of 1024
take 35 GETs of parts (25). Larger shards would hold more rows in memory until they can be put. Against zstd level 3 in
single chunks, that tile takes 0.72 s of the processor to write (0.94) and 0.52 s to read by rows, decoded (0.95).
"""

import math
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import dask.array as da
import google_crc32c
import numpy as np
import zarr
from zarr.abc.store import ByteRequest, Store, SuffixByteRequest
from zarr.codecs import BloscCodec
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from darts_assets.bands import Band
from darts_assets.errors import NotReadableError
from darts_assets.tiles import WINDOW_ROWS

CHUNK = WINDOW_ROWS
"""Pixels of a chunk's side: a row of chunks is a window and one object, and a patch of 1024 pixels touches at most
nine chunks."""


def create_band(
    group: zarr.Group, name: str, shape: tuple[int, int], dtype: np.dtype[Any], attributes: dict[str, Any]
) -> "zarr.Array[Any]":
    """A band to be written row of chunks by row of chunks, into a `FreshStore`."""
    chunk = (min(CHUNK, shape[0]), min(CHUNK, shape[1]))
    return group.create_array(
        name,
        shape=shape,
        chunks=chunk,
        shards=(chunk[0], -(-shape[1] // chunk[1]) * chunk[1]),
        dtype=dtype,
        fill_value=attributes.get("_FillValue", 0),
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
        attributes={**attributes, "grid_mapping": "spatial_ref"},
        dimension_names=("y", "x"),
        # A chunk of nothing but fill is written too, so that a chunk that is not there is always damage.
        config={"write_empty_chunks": True},
    )


def open_band(version: Store, name: str) -> "zarr.Array[Any]":
    """A band for reading; reading what is not whole raises NotReadableError."""
    store = _CompleteStore(version)
    array = zarr.open_array(store, path=name, mode="r", zarr_format=3)
    if array.shards is not None:
        store.chunks_per_shard = math.prod(array.shards) // math.prod(array.chunks)
    return array


@dataclass(frozen=True)
class _Decoded:
    """A stored band as an array of physical values.

    Dask hands slices down to what it reads from, but not through a function that it maps over blocks.
    """

    array: "zarr.Array[Any]"
    codec: Band

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.codec.memory

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        return self.codec.decode(np.asarray(self.array[key]))


def lazy_band(array: "zarr.Array[Any]", codec: Band | None) -> da.Array:
    """A band as a dask array, a block for each row of chunks: physical values if there is a codec, else stored ones."""
    source = array if codec is None else _Decoded(array, codec)
    blocks = (array.chunks[0], array.shape[1])
    nothing = np.empty((0, 0), dtype=source.dtype)  # else dask reads to find out
    # Dask's own unique names come from `uuid1`, which opens a socket to learn the machine's address.
    return da.from_array(source, chunks=blocks, name=f"band-{uuid4().hex}", inline_array=True, meta=nothing)


class _CompleteStore(WrapperStore[Any]):
    """A store in which every chunk must exist, also within a shard.

    A shard ends with its index: offset and length of each chunk (both 2**64 - 1 for one that was not written), and a
    checksum of these.

    Attributes:
        chunks_per_shard: of the array that is read; 0 where its objects are chunks.
    """

    chunks_per_shard: int = 0

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        value = await super().get(key, prototype, byte_range)
        if "/c/" not in key:
            return value
        if value is None:
            raise NotReadableError(f"{self._store}: chunk {key} is missing; materialize the partition again")
        if self.chunks_per_shard and (byte_range is None or isinstance(byte_range, SuffixByteRequest)):
            self._check_index(key, value.as_numpy_array()[-16 * self.chunks_per_shard - 4 :].tobytes())
        return value

    def _check_index(self, key: str, index: bytes) -> None:
        entries, checksum = index[:-4], index[-4:]
        if len(entries) != 16 * self.chunks_per_shard or google_crc32c.value(entries) != int.from_bytes(
            checksum, "little"
        ):
            raise NotReadableError(f"{self._store}: {key} is damaged; materialize the partition again")
        if (np.frombuffer(entries, dtype="<u8") == np.iinfo(np.uint64).max).any():
            raise NotReadableError(f"{self._store}: {key} lacks a chunk; materialize the partition again")


class FreshStore(WrapperStore[Any]):
    """A store into which every shard is written once and whole: Zarr need not ask first what is there."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """An object, None for a shard."""
        return None if "/c/" in key else await super().get(key, prototype, byte_range)
