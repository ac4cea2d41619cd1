"""Zarr layout of a band: chunks of 512 x 512 in shards of one row of chunks, Blosc LZ4 with bitshuffle.

Measured on two cores, with 17 bands of 4096 x 4096 of the demo and Sentinel-2 red, green and near infrared. Compression
on one core, in 512 x 512 chunks, bitshuffled unless noted:

| codec | write, MB/s | read, MB/s | size (demo, Sentinel-2) |
|---|---|---|---|
| Blosc LZ4, level 5 | 794 | 1319 | 54 %, 66 % |
| Blosc zstd, level 1 | 456 | 765 | 49 %, 64 % |
| Blosc zstd, level 3 | 287 | 802 | 49 %, 63 % |
| zstd, level 3, no shuffle | 165 | 885 | 54 %, 72 % |

LZ4 needs a tenth more space than zstd and half the time, for which a step that feeds 16 bands to a GPU would wait.
Chunks of 256 or 1024 compress equally well; 256 doubles the time, since Zarr's overhead per chunk equals the
decompression time; 1024 requires windows of 1024 rows. With shards of one row of chunks a full scene has 400 objects
instead of 8200. On S3, 17 bands of 2048 x 2048 need 98 PUTs (302 without shards) and 68 GETs by rows (272); four
patches of 1024 need 35 ranged GETs (25). Larger shards would hold more rows in memory. Compared with zstd level 3
without shards, writing that tile takes 0.72 s of CPU time (0.94), reading and decoding it by rows 0.52 s (0.95).
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
"""Side of a chunk in pixels. A row of chunks is one window and one object; a patch of 1024 pixels overlaps at most nine
chunks."""


def create_band(
    group: zarr.Group, name: str, shape: tuple[int, int], dtype: np.dtype[Any], attributes: dict[str, Any]
) -> "zarr.Array[Any]":
    """Create the array of a band in a `FreshStore`; it is written by rows of chunks."""
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
        # Write empty chunks as well, so that a missing chunk always means damage.
        config={"write_empty_chunks": True},
    )


def open_band(version: Store, name: str) -> "zarr.Array[Any]":
    """Open a band for reading; reading a missing or damaged chunk raises NotReadableError.

    Raises:
        NotReadableError: if the version does not have the band (any more).
    """
    store = _CompleteStore(version)
    try:
        array = zarr.open_array(store, path=name, mode="r", zarr_format=3)
    except FileNotFoundError as error:
        raise NotReadableError(f"{version}: {name} does not exist or was replaced during reading") from error
    if array.shards is not None:
        store.chunks_per_shard = math.prod(array.shards) // math.prod(array.chunks)
    return array


@dataclass(frozen=True)
class _Decoded:
    """A stored band as an array of physical values.

    Decodes on access, since dask passes slices on to its source but not through `map_blocks`.
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
    """A band as a dask array with one block per row of chunks: physical values with a codec, else stored ones."""
    source = array if codec is None else _Decoded(array, codec)
    blocks = (array.chunks[0], array.shape[1])
    nothing = np.empty((0, 0), dtype=source.dtype)  # otherwise dask reads to infer it
    # By default dask names arrays by `uuid1`, which opens a socket to get the machine's address.
    return da.from_array(source, chunks=blocks, name=f"band-{uuid4().hex}", inline_array=True, meta=nothing)


class _CompleteStore(WrapperStore[Any]):
    """A store that raises for missing chunks, also within a shard.

    A shard ends with an index of the offset and length of each chunk (both 2**64 - 1 if not written) and a checksum.

    Attributes:
        chunks_per_shard: number of chunks per object; 0 for an array without shards.
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
    """A store for new arrays: Zarr writes each shard once and completely, without reading it first."""

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return an object, None for a shard."""
        return None if "/c/" in key else await super().get(key, prototype, byte_range)
