"""An auxiliary datacube: chunks are written once, whole, by whoever needs them first, and read as lazy windows.

Measured for the layout on a 4096 x 4096 terrain with 5 cm of noise, two cores (write s, 2500 x 2500 read s, MB), all
in chunks of 1024 with bitshuffle + zstd 3 except the last:
    float32 0.16 0.028 38.1; float32 rounded to cm 0.21 0.039 38.0; int32 centimetres 0.08 0.021 19.7;
    int32 with delta filter 0.10 0.019 14.5; peer (float32, chunks of 3600, Blosc 9) 7.63 0.077 35.3.
Elevations are therefore int32 centimetres. The delta filter is not part of Zarr's specification, so other readers
might not open the cube: not taken.

`status` holds a byte for each chunk, in the manifest itself: 1 for data, 2 for a chunk whose source has nothing there.
It is committed together with the data, so it is the truth about what is filled.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from typing import Any, cast

import icechunk
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from xarray.core.indexing import LazilyIndexedArray
from zarr.codecs import BloscCodec
from zarr.core.sync import sync
from zarr.errors import ContainsGroupError

from darts_assets.bands import Band
from darts_assets.cubes.grid import CHUNK
from darts_assets.cubes.lazy import DecodedWindow
from darts_assets.cubes.repository import BRANCH, CubeRepository
from darts_assets.cubes.spec import CubeSpec
from darts_assets.errors import CubeError, MissingChunksError
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import on_grid

_STATUS = "status"


class ChunkStatus(IntEnum):
    """What a cube knows of a chunk."""

    MISSING = 0
    DATA = 1
    EMPTY = 2


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

    def write(
        self, key: str, values: Mapping[str, npt.NDArray[Any]], message: str, sources: Sequence[str] = ()
    ) -> str | None:
        """Fill one chunk, in one commit; a filled chunk stays as it is.

        Args:
            key: partition key of the chunk.
            values: variable -> (1024, 1024) physical values, row 0 at the top.
            message: what the commit says beside the key, such as the run that fills it.
            sources: ids of what the values come from, kept with the commit.

        Returns:
            The snapshot's id; None if the chunk has been filled by somebody else.

        Raises:
            CubeError: if the values do not fit the cube.
            StoreError: if the store fails; then nothing of the chunk is visible.
        """
        row, col = self.spec.grid.parse(key)
        encoded = {variable.name: self._encoded(key, variable, values) for variable in self.spec.variables}
        if self._reader() is None:
            self.create()
        repository = self._repository.open_or_create()
        with self._repository.errors():
            session = repository.writable_session(BRANCH)
            group = zarr.open_group(session.store, mode="r+")
            status = _array(group, _STATUS)
            if status[row, col] != ChunkStatus.MISSING:
                return None
            empty = True
            for variable in self.spec.variables:
                _array(group, variable.name)[self.spec.grid.chunk_slices(row, col)] = encoded[variable.name]
                empty &= bool((encoded[variable.name] == self.spec.fill_of(variable)).all())
            status[row, col] = ChunkStatus.EMPTY if empty else ChunkStatus.DATA
        # Only a writer of the same chunk can be in conflict, and its values are as good as ours.
        return self._repository.commit(session, f"{key}: {message}", {"chunk": key, "sources": list(sources)})

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
        group = zarr.open_group(session.store, mode="r")
        lazy = {
            v.name: LazilyIndexedArray(DecodedWindow(_array(group, v.name), v, rows, cols, self._repository.errors))
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
            # Opening a group whose snapshot is damaged looks like opening one that is not there; this does not.
            if not sync(session.store.exists("zarr.json")):
                return None
            found = zarr.open_group(session.store, mode="r").attrs.get("darts_assets")
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
        status = _array(zarr.open_group(session.store, mode="r"), _STATUS)
        with self._repository.errors():
            return {key: ChunkStatus(int(cast(Any, status[row, col]))) for key, (row, col) in index.items()}

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
                compressors=BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
                attributes=variable.cf_attributes(),
                dimension_names=("y", "x"),
            )
        # Uncompressed bytes stay below Icechunk's inline threshold: reading the status reads no further object.
        group.create_array(
            _STATUS, shape=self.spec.grid.shape, chunks=(1, 1), dtype="uint8", fill_value=0, compressors=None
        )

    def _encoded(self, key: str, variable: Band, values: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        if variable.name not in values:
            raise CubeError(f"{self.spec.name}: chunk {key} comes without {variable.name}")
        array = values[variable.name]
        if array.shape != (CHUNK, CHUNK) or not np.can_cast(array.dtype, variable.memory, "same_kind"):
            raise CubeError(
                f"{self.spec.name}: {variable.name} of chunk {key} is {array.dtype} {array.shape}, "
                f"expected {variable.memory} {(CHUNK, CHUNK)}"
            )
        return variable.encode(array)


def _array(group: zarr.Group, name: str) -> "zarr.Array[Any]":
    return cast("zarr.Array[Any]", group[name])
