"""An auxiliary datacube: chunks are written once, whole, by whoever needs them first, and read as lazy windows.

The layout was measured: chunks of 1024 x 1024 of a terrain with 5 cm of noise in steps of 1/128 m, on one core (kB, ms
to compress, ms to decompress a chunk), elevations as int32 centimetres, shuffled, in Blosc's own blocks and in those of
512 kB:
    zstd 3 1209 9 1.6, 1187 12 1.3; zstd 4 1186 14 1.4, 1174 16 1.05 (taken); zstd 5 1186 22 1.1, 1175 22 1.1;
    zstd 7 1175 72 1.1; lz4hc 2 1330 4 0.6; lz4hc 5 1242 40 0.55; lz4hc 9 1228 105 0.5;
    zstd 3 bitshuffle 1306 10 3.6; as float32 to 8 mm: zstd 3 1352 15 2.7; zstd 5, 512 kB 1262 36 1.7;
    peer, float32 in chunks of 3600: zstd 9 shuffle 1209, and 2198 where elevations have noise in every digit.
lz4hc would read windows a tenth faster and make cubes a tenth larger. One-byte variables have no bytes to shuffle; a
mask of ones takes 256 bytes and lies in the manifest itself. Filters that are not part of Zarr's specification (delta,
scale and offset) would keep other readers from opening the cube: not taken.

`status` holds a byte for each chunk, in the manifest itself: 1 for data, 2 for a chunk whose source has nothing there.
It is committed together with the data, so it is the truth about what is filled.
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

from darts_assets.cubes.grid import CHUNK
from darts_assets.cubes.history import ExpiredHistory, expire
from darts_assets.cubes.lazy import DecodedWindow, fetch
from darts_assets.cubes.repository import BRANCH, CubeRepository
from darts_assets.cubes.spec import ChunkData, CubeSpec
from darts_assets.errors import CubeError, MissingChunksError, StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import on_grid

_STATUS = "status"
_MANY = 1000  # keys; listing a whole cube is faster than asking for more of them one by one
_COMMIT_ATTEMPTS = 5  # beyond one for each chunk that another writer may take: for a history that expires meanwhile
_ELEVATIONS = BloscCodec(cname="zstd", clevel=4, shuffle="shuffle", blocksize=1 << 19)
_BYTES = BloscCodec(cname="zstd", clevel=3, shuffle="noshuffle")


class ChunkStatus(IntEnum):
    """What a cube knows of a chunk."""

    MISSING = 0
    DATA = 1
    EMPTY = 2


@dataclass(frozen=True)
class Coverage:
    """What a cube holds.

    Attributes:
        data: row and column of each chunk with data, (n, 2), sorted.
        empty: those of each chunk whose source has nothing there, (n, 2), sorted.
    """

    data: npt.NDArray[np.int64]
    empty: npt.NDArray[np.int64]


_NO_CHUNKS = np.empty((0, 2), dtype=np.int64)


class Cube:
    """A cube at a place. Opening is free; every call sees the newest snapshot.

    Args:
        location: a local folder or an S3 prefix; need not exist for reading: then every chunk is missing.
        spec: what the cube holds.
        lock_timeout: seconds to wait for another process's commit on a local path.
    """

    def __init__(self, location: StoreLocation, spec: CubeSpec, lock_timeout: float = 300) -> None:
        self.location = location
        self.spec = spec
        self._repository = CubeRepository(location, lock_timeout)
        self._layout_checked = False

    def create(self) -> None:
        """Create the cube if there is none; any number of processes may do so at once.

        Raises:
            UnsafeStoreError: if the object store cannot make concurrent commits safe.
            CubeError: if there is a cube of another layout.
        """
        repository = self._repository.open_or_create()
        if self._reader() is not None:
            return
        with self._repository.errors(), suppress(ContainsGroupError):  # somebody else has created it meanwhile
            session = repository.writable_session(BRANCH)
            self._create_arrays(session)
            self._repository.commit(session, f"created {self.spec.name}", {})
        if self._reader() is None:
            raise CubeError(f"{self.spec.name}: the cube at {self.location} could not be created")

    def snapshot(self) -> str:
        """Id of the newest snapshot, for provenance.

        Raises:
            CubeError: if there is no cube.
        """
        session = self._reader()
        if session is None:
            raise CubeError(f"{self.spec.name}: there is no cube at {self.location}; fill a chunk first")
        return str(session.snapshot_id)

    def status(self, keys: Iterable[str]) -> dict[str, ChunkStatus]:
        """What the cube knows of each chunk.

        Raises:
            CubeError: if a key is not one of this cube.
        """
        return self._status(self._reader(), keys)

    def filled(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that are filled, with data or as known to be empty."""
        return {key for key, status in self.status(keys).items() if status != ChunkStatus.MISSING}

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of `keys` that are not filled, in their order."""
        return [key for key, status in self.status(keys).items() if status == ChunkStatus.MISSING]

    def write(self, chunks: Mapping[str, ChunkData], message: str) -> dict[str, str]:
        """Fill chunks, all in one commit; chunks that are filled stay as they are.

        Args:
            chunks: partition key -> what the chunk holds.
            message: what the commit says beside the keys, such as the run that fills the chunks.

        Returns:
            Partition key -> id of the snapshot that holds it first, for the chunks that this call has filled; others
            have been filled by somebody else.

        Raises:
            CubeError: if the values do not fit the cube.
            StoreError: if the store fails; then nothing of the chunks is visible.
        """
        encoded = {key: self._encoded(key, data) for key, data in chunks.items()}
        if self._reader() is None:
            self.create()
        repository = self._repository.open_or_create()
        # Only a writer of the same chunks can be in conflict; its values are as good as ours, so they leave the commit.
        for _ in range(len(chunks) + _COMMIT_ATTEMPTS):
            with self._repository.errors():
                session = repository.writable_session(BRANCH)
                keys = [key for key, status in self._status(session, encoded).items() if status == ChunkStatus.MISSING]
                if not keys:
                    return {}
                group = zarr.open_group(session.store, mode="r+")
                for key in keys:
                    self._put(group, key, encoded[key])
            facts = {"chunks": {key: list(chunks[key].sources) for key in keys}}
            snapshot = self._repository.commit(session, f"{message}: {', '.join(keys)}", facts)
            if snapshot is not None:
                return dict.fromkeys(keys, snapshot)
        raise StoreError(
            f"{self.location}: {self.spec.name} is changed faster than {len(keys)} chunks can be committed"
        )

    def expire(self, older_than: timedelta, *, alone: bool = False) -> ExpiredHistory:
        """Expire the snapshots that were replaced longer ago than `older_than`, and remove what nothing refers to.

        Raises:
            CubeError: if the age is below a day, unless nobody else uses the cube meanwhile (`alone`).
            StoreError: if the store fails; what has been done until then is sound, and can be gone on with.
        """
        return expire(self._repository, older_than, alone=alone)

    def coverage(self) -> Coverage:
        """Which chunks are filled, from the manifests alone."""
        session = self._reader()
        return Coverage(_NO_CHUNKS, _NO_CHUNKS) if session is None else self._coverage(session)

    def _coverage(self, session: icechunk.Session) -> Coverage:
        with self._repository.errors():
            filled = sync(_coordinates(session, _STATUS))
            # A variable stores no chunk that is nothing but fill; an empty chunk has none at all.
            with_data: set[tuple[int, int]] = set()
            for variable in self.spec.variables:
                with_data |= sync(_coordinates(session, variable.name))
        return Coverage(_sorted(with_data & filled), _sorted(filled - with_data))

    def stored_bytes(self, keys: Iterable[str]) -> dict[str, int]:
        """Compressed size of each filled chunk, all variables together; 0 for one that is empty or missing."""
        index = {key: self.spec.grid.parse(key) for key in keys}
        session = self._reader()
        if session is None:
            return dict.fromkeys(index, 0)
        sizes = dict.fromkeys(index, 0)
        for key, (row, col) in index.items():
            for variable in self.spec.variables:
                with suppress(FileNotFoundError):  # nothing but fill is not stored
                    sizes[key] += sync(session.store.getsize(f"{variable.name}/c/{row}/{col}"))
        return sizes

    def window(self, geobox: GeoBox, buffer: int = 0) -> xr.Dataset:
        """The part of the cube under `geobox`, lazily, on the cube's own grid.

        Args:
            geobox: a grid in any CRS.
            buffer: cube pixels to add on each side.

        Returns:
            Dataset with dims (y, x), physical values in memory dtypes (NaN or 0 where there is nothing), coordinates
            and `spatial_ref` computed from the grid, and the snapshot's id in `attrs`. Longitudes run on past 180
            where the grid crosses the antimeridian. Chunks of the window's corners that do not lie under `geobox`
            may be unfilled: they read as nothing.

        Raises:
            MissingChunksError: if a chunk under the grid is not filled.
            CubeError: if the grid is outside the cube or cannot be served (see `CubeGrid.window`).
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
        """A session on the newest snapshot, None if the cube is not there (or only begun).

        Raises:
            CubeError: if there is a cube of another layout.
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
        found = metadata.get("attributes", {}).get("darts_assets")
        if found != self.spec.layout():
            raise CubeError(
                f"{self.spec.name}: what is at {self.location} has another layout than this version of darts_assets "
                "makes; choose another store or remove it"
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
            states = sync(fetch(session.store, [f"{_STATUS}/c/{row}/{col}" for row, col in index.values()]))
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
        group = zarr.create_group(session.store, attributes={
            "title": self.spec.title, "source": self.spec.source, "darts_assets": self.spec.layout(),
        })  # fmt: skip
        for variable in self.spec.variables:
            group.create_array(
                variable.name,
                shape=tuple(self.spec.grid.geobox.shape),
                chunks=(CHUNK, CHUNK),
                dtype=variable.stored,
                fill_value=self.spec.fill_of(variable),
                compressors=_BYTES if variable.stored.itemsize == 1 else _ELEVATIONS,
                attributes=variable.cf_attributes(),
                dimension_names=("y", "x"),
            )
        # Uncompressed bytes stay below Icechunk's inline threshold: reading the status reads no further object.
        group.create_array(
            _STATUS, shape=self.spec.grid.shape, chunks=(1, 1), dtype="uint8", fill_value=0, compressors=None
        )

    def _encoded(self, key: str, data: ChunkData) -> dict[str, npt.NDArray[Any]]:
        """Stored values of a chunk, variable by variable."""
        encoded = {}
        for variable in self.spec.variables:
            if variable.name not in data.values:
                raise CubeError(f"{self.spec.name}: chunk {key} comes without {variable.name}")
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
        _array(group, _STATUS)[row, col] = ChunkStatus.EMPTY if empty else ChunkStatus.DATA


async def _group_metadata(store: Store) -> dict[str, Any] | None:
    """What the cube's group says of itself, None where there is no group."""
    # To `get` alone a damaged snapshot looks like one that is not there, as it does to zarr's way to open a group.
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
