"""An auxiliary datacube: each chunk is written once, whole, and read through lazy windows.

The layout is the result of measurements with chunks of 1024 x 1024 of a terrain with 5 cm of noise in steps of 1/128 m,
on one core (kB, ms to compress, ms to decompress a chunk), elevations as int32 centimetres, shuffled, in Blosc's
default blocks and in blocks of 512 kB:
    zstd 3 1209 9 1.6, 1187 12 1.3; zstd 4 1186 14 1.4, 1174 16 1.05 (taken); zstd 5 1186 22 1.1, 1175 22 1.1;
    zstd 7 1175 72 1.1; lz4hc 2 1330 4 0.6; lz4hc 5 1242 40 0.55; lz4hc 9 1228 105 0.5;
    zstd 3 bitshuffle 1306 10 3.6; as float32 to 8 mm: zstd 3 1352 15 2.7; zstd 5, 512 kB 1262 36 1.7;
    peer, float32 in chunks of 3600: zstd 9 shuffle 1209, and 2198 where elevations have noise in every digit.
lz4hc reads windows a tenth faster but makes cubes a tenth larger. One-byte variables have no bytes to shuffle; a mask
of ones takes 256 bytes and is stored in the manifest. Filters outside of Zarr's specification (delta, scale and offset)
are not used, because other readers could not open the cube.

`status` holds a byte for each chunk, in the manifest: 1 for data, 2 for a chunk without data at its source. It is
committed together with the data, so that it always agrees with them.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any, cast

import icechunk
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from xarray.core.indexing import LazilyIndexedArray
from zarr.abc.store import Store
from zarr.codecs import BloscCodec
from zarr.core.sync import sync
from zarr.errors import ContainsGroupError

from darts_assets.cubes.cf_metadata import STATUS, describe
from darts_assets.cubes.grid import CHUNK
from darts_assets.cubes.history import ExpiredHistory, expire
from darts_assets.cubes.repository import BRANCH, CubeRepository
from darts_assets.cubes.variables import ChunkData, CubeSpec, DecodedWindow, fetch
from darts_assets.errors import CubeError, MissingChunksError, StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import on_grid

_MANY = 1000  # keys; listing the whole cube is faster than reading the status of more of them
_COMMIT_ATTEMPTS = 5  # in addition to one per chunk, which another writer may fill: the history may expire meanwhile
_ELEVATIONS = BloscCodec(cname="zstd", clevel=4, shuffle="shuffle", blocksize=1 << 19)
_BYTES = BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle")


class ChunkStatus(IntEnum):
    """Status of a chunk; EMPTY: its source has no data there."""

    MISSING = 0
    DATA = 1
    EMPTY = 2


@dataclass(frozen=True)
class Coverage:
    """The filled chunks of a cube.

    Attributes:
        data: row and column of each chunk with data, (n, 2), sorted.
        empty: row and column of each chunk without data at its source, (n, 2), sorted.
    """

    data: npt.NDArray[np.int64]
    empty: npt.NDArray[np.int64]


_NO_CHUNKS = np.empty((0, 2), dtype=np.int64)


class Cube:
    """A cube at a location. Construction reads nothing; every call sees the newest snapshot.

    Args:
        location: a local folder or an S3 prefix; if it does not exist, every chunk is missing.
        spec: specification of the cube.
        lock_timeout: seconds to wait for another process's commit on a local path.
    """

    def __init__(self, location: StoreLocation, spec: CubeSpec, lock_timeout: float = 300) -> None:
        self.location = location
        self.spec = spec
        self._repository = CubeRepository(location, lock_timeout)
        self._layout_checked = False

    def create(self) -> None:
        """Create the cube if it does not exist; safe for concurrent processes.

        Raises:
            UnsafeStoreError: if the object store cannot make concurrent commits safe.
            CubeError: if the existing cube has another layout.
        """
        repository = self._repository.open_or_create()
        if self._reader() is not None:
            return
        with self._repository.errors(), suppress(ContainsGroupError):  # created by another process meanwhile
            session = repository.writable_session(BRANCH)
            self._create_arrays(session)
            self._repository.commit(session, f"created {self.spec.name}", {})
        if self._reader() is None:
            raise CubeError(f"{self.spec.name}: the cube at {self.location} could not be created")

    def migrate(self) -> bool:
        """Commit the metadata of the current version of the cube (`cf_metadata`) if they are not there.

        Chunks are left unchanged, and readers and writers may go on meanwhile, also those of earlier versions.

        Returns:
            Whether anything was committed; False if the cube does not exist or has the metadata.

        Raises:
            UnsafeStoreError: if the object store cannot make concurrent commits safe.
            CubeError: if the cube has another layout.
            StoreError: if the store fails; then the cube is as before.
        """
        if self._reader() is None:
            return False
        repository = self._repository.open_or_create()
        for _ in range(_COMMIT_ATTEMPTS):
            with self._repository.errors():
                session = repository.writable_session(BRANCH)
                if not describe(session.store, self.spec):
                    return False
            if self._repository.commit(session, f"described {self.spec.name} for other programs", {}) is not None:
                return True
        raise StoreError(
            f"{self.location}: the metadata of {self.spec.name} could not be committed: others commit faster"
        )

    def snapshot(self) -> str:
        """Id of the newest snapshot, for provenance.

        Raises:
            CubeError: if the cube does not exist.
        """
        session = self._reader()
        if session is None:
            raise CubeError(f"{self.spec.name}: the cube at {self.location} does not exist; fill a chunk first")
        return str(session.snapshot_id)

    def status(self, keys: Iterable[str]) -> dict[str, ChunkStatus]:
        """Status of each chunk.

        Raises:
            CubeError: if a key is not of this cube.
        """
        return self._status(self._reader(), keys)

    def filled(self, keys: Iterable[str]) -> set[str]:
        """The filled ones of `keys`, with data or empty."""
        return {key for key, status in self.status(keys).items() if status != ChunkStatus.MISSING}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """The missing ones of `keys`, in their order."""
        return [key for key, status in self.status(keys).items() if status == ChunkStatus.MISSING]

    def write(self, chunks: Mapping[str, ChunkData], message: str) -> dict[str, str]:
        """Fill chunks in one commit; filled chunks are left unchanged.

        Args:
            chunks: partition key -> data of the chunk.
            message: commit message besides the keys, such as the id of the run.

        Returns:
            Partition key -> id of the first snapshot that has it, for the chunks that this call has filled; the others
            were filled by another writer.

        Raises:
            CubeError: if the values do not fit the cube.
            StoreError: if the store fails; then none of the chunks is visible.
        """
        encoded = {key: self._encoded(key, data) for key, data in chunks.items()}
        if self._reader() is None:
            self.create()
        repository = self._repository.open_or_create()
        # Only a writer of the same chunks can be in conflict; its values are equivalent, so these chunks are left out.
        for _ in range(len(chunks) + _COMMIT_ATTEMPTS):
            with self._repository.errors():
                session = repository.writable_session(BRANCH)
                keys = [key for key, status in self._status(session, encoded).items() if status == ChunkStatus.MISSING]
                if not keys:
                    return {}
                group = zarr.open_group(session.store, mode="r+")
                for key in keys:
                    self._put(group, key, encoded[key])
            metadata = {"chunks": {key: list(chunks[key].sources) for key in keys}}
            snapshot = self._repository.commit(session, f"{message}: {', '.join(keys)}", metadata)
            if snapshot is not None:
                return dict.fromkeys(keys, snapshot)
        raise StoreError(
            f"{self.location}: {len(keys)} chunks of {self.spec.name} could not be committed: others commit faster"
        )

    def expire(self, older_than: timedelta, *, alone: bool = False) -> ExpiredHistory:
        """Expire the snapshots that were replaced longer ago than `older_than`, and remove unreferenced objects.

        Raises:
            CubeError: if the age is below a day, unless the cube has no other users meanwhile (`alone`).
            StoreError: if the store fails; the cube stays consistent, and the call can be repeated.
        """
        return expire(self._repository, older_than, alone=alone)

    def coverage(self) -> Coverage:
        """The filled chunks; reads only manifests."""
        session = self._reader()
        return Coverage(_NO_CHUNKS, _NO_CHUNKS) if session is None else self._coverage(session)

    def _coverage(self, session: icechunk.Session) -> Coverage:
        with self._repository.errors():
            filled = sync(_coordinates(session, STATUS))
            # Variables do not store chunks of fill only, so that an empty chunk has no stored chunk at all.
            with_data: set[tuple[int, int]] = set()
            for variable in self.spec.variables:
                with_data |= sync(_coordinates(session, variable.name))
        return Coverage(_sorted(with_data & filled), _sorted(filled - with_data))

    def stored_bytes(self, keys: Iterable[str]) -> dict[str, int]:
        """Compressed bytes of each chunk, all variables together; 0 for empty and missing ones."""
        index = {key: self.spec.grid.parse(key) for key in keys}
        session = self._reader()
        if session is None:
            return dict.fromkeys(index, 0)
        sizes = dict.fromkeys(index, 0)
        for key, (row, col) in index.items():
            for variable in self.spec.variables:
                with suppress(FileNotFoundError):  # chunks of fill only are not stored
                    sizes[key] += sync(session.store.getsize(f"{variable.name}/c/{row}/{col}"))
        return sizes

    def window(self, geobox: GeoBox, buffer: int = 0) -> xr.Dataset:
        """The part of the cube under `geobox`, lazily, on the cube's own grid.

        Args:
            geobox: a grid in any CRS.
            buffer: cube pixels to add on each side.

        Returns:
            Dataset with dims (y, x), physical values in memory dtypes (NaN or 0 without data), coordinates and
            `spatial_ref` computed from the grid, and the snapshot's id in `attrs`. Longitudes continue past 180 if the
            grid crosses the antimeridian. Chunks in the window's corners that do not lie under `geobox` may be missing:
            they read as no data.

        Raises:
            MissingChunksError: if a chunk under the grid is not filled.
            CubeError: if the grid is outside of the cube or unsupported (see `CubeGrid.window`).
        """
        grid = self.spec.grid
        rows, cols = grid.window(geobox, buffer)
        session = self._reader()
        states = self._status(session, grid.chunks_for(geobox, buffer))
        absent = [key for key, status in states.items() if status == ChunkStatus.MISSING]
        if session is None or absent:
            raise MissingChunksError(self.spec.name, absent)
        lazy = {
            v.name: LazilyIndexedArray(DecodedWindow(session.store, v, rows, cols, self._repository.errors))
            for v in self.spec.variables
        }
        attrs = {"cube": self.spec.name, "snapshot": str(session.snapshot_id)}
        dataset = on_grid(cast(dict[str, Any], lazy), grid.geobox[rows, cols], attrs)
        for variable in self.spec.variables:
            dataset[variable.name].attrs.update(long_name=variable.long_name, units=variable.units)
        return dataset

    def _reader(self) -> icechunk.Session | None:
        """A session on the newest snapshot, None if the cube does not exist (or is not complete yet).

        Raises:
            CubeError: if the existing cube has another layout.
        """
        repository = self._repository.open()
        if repository is None:
            return None
        with self._repository.errors():
            session = repository.readonly_session(BRANCH)
            if self._layout_checked:
                return session
            metadata = sync(_group_metadata(session.store))
        if metadata is None:
            return None
        if metadata.get("attributes", {}).get("darts_assets") != self.spec.layout():
            raise CubeError(
                f"{self.spec.name}: the cube at {self.location} has another layout than this version of darts_assets "
                "expects; choose another store or remove it"
            )
        self._layout_checked = True
        return session

    def _status(self, session: icechunk.Session | None, keys: Iterable[str]) -> dict[str, ChunkStatus]:
        index = {key: self.spec.grid.parse(key) for key in keys}
        if session is None:
            return dict.fromkeys(index, ChunkStatus.MISSING)
        if len(index) > _MANY:
            return self._listed_status(session, index)
        with self._repository.errors():
            states = sync(fetch(session.store, [f"{STATUS}/c/{row}/{col}" for row, col in index.values()]))
        return {
            key: ChunkStatus.MISSING if state is None else ChunkStatus(int(state[0]))
            for key, state in zip(index, states, strict=True)
        }

    def _listed_status(self, session: icechunk.Session, index: Mapping[str, tuple[int, int]]) -> dict[str, ChunkStatus]:
        coverage = self._coverage(session)
        known = {tuple(chunk): ChunkStatus.DATA for chunk in coverage.data.tolist()}
        known |= {tuple(chunk): ChunkStatus.EMPTY for chunk in coverage.empty.tolist()}
        return {key: known.get(chunk, ChunkStatus.MISSING) for key, chunk in index.items()}

    def _create_arrays(self, session: icechunk.Session) -> None:
        group = zarr.create_group(session.store)
        for variable in self.spec.variables:
            group.create_array(
                variable.name,
                shape=tuple(self.spec.grid.geobox.shape),
                chunks=(CHUNK, CHUNK),
                dtype=variable.stored,
                fill_value=self.spec.fill_of(variable),
                compressors=_BYTES if variable.stored.itemsize == 1 else _ELEVATIONS,
            )
        # Uncompressed bytes stay below Icechunk's inline threshold, so that the status is part of the manifest.
        group.create_array(
            STATUS, shape=self.spec.grid.shape, chunks=(1, 1), dtype="uint8", fill_value=0, compressors=None
        )
        describe(session.store, self.spec)

    def _encoded(self, key: str, data: ChunkData) -> dict[str, npt.NDArray[Any]]:
        """Variable -> stored values of a chunk."""
        encoded = {}
        for variable in self.spec.variables:
            if variable.name not in data.values:
                raise CubeError(f"{self.spec.name}: chunk {key} has no {variable.name}")
            array = data.values[variable.name]
            if array.shape != (CHUNK, CHUNK) or not np.can_cast(array.dtype, variable.memory, "same_kind"):
                raise CubeError(
                    f"{self.spec.name}: {variable.name} of chunk {key} is {array.dtype} {array.shape}, "
                    f"expected {variable.memory} {(CHUNK, CHUNK)}"
                )
            encoded[variable.name] = variable.encode(array)
        return encoded

    def _put(self, group: zarr.Group, key: str, encoded: Mapping[str, npt.NDArray[Any]]) -> None:
        row, col = self.spec.grid.parse(key)
        empty = True
        for variable in self.spec.variables:
            _array(group, variable.name)[self.spec.grid.chunk_slices(row, col)] = encoded[variable.name]
            empty &= bool((encoded[variable.name] == self.spec.fill_of(variable)).all())
        _array(group, STATUS)[row, col] = ChunkStatus.EMPTY if empty else ChunkStatus.DATA


async def _group_metadata(store: Store) -> dict[str, Any] | None:
    """Metadata of the cube's group, None if it does not exist."""
    # `get`, and zarr's own functions to open a group, cannot distinguish a damaged snapshot from a missing one.
    if not await store.exists("zarr.json"):
        return None
    (metadata,) = await fetch(store, ["zarr.json"])
    return None if metadata is None else cast(dict[str, Any], json.loads(metadata.tobytes()))


async def _coordinates(session: icechunk.Session, variable: str) -> set[tuple[int, int]]:
    return {(int(row), int(col)) async for row, col in session.chunk_coordinates(f"/{variable}")}


def _sorted(chunks: set[tuple[int, int]]) -> npt.NDArray[np.int64]:
    return np.array(sorted(chunks), dtype=np.int64).reshape(-1, 2)


def _array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    return cast("zarr.Array[Any]", group[name])
