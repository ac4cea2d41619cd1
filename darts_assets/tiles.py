"""Tiles: an `xarray.Dataset` on a `GeoBox`, read and written in row windows of full width.

A full Sentinel-2 tile with all features takes 6 GB of memory, so that no step holds one. Steps *read* a lazy dataset
(backed by dask or zarr) window by window, and *return* a `TileStream`: the grid, and an iterator of row windows from
top to bottom. The consumer of the stream sets the pace and reports progress.
"""

import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:  # odc.geo is slow to import, and definitions import this module
    import xarray as xr
    from odc.geo.geobox import GeoBox

T = TypeVar("T")

WINDOW_ROWS = 512
"""Rows of a window; 16 float32 bands of a full Sentinel-2 scene take 360 MB."""


def row_windows(height: int, rows: int = WINDOW_ROWS) -> Iterator[slice]:
    """Slices of `rows` rows that cover `range(height)`; the last one may be shorter."""
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def ahead(items: Generator[T | None, None, None], depth: int = 1) -> Generator[T, None, None]:
    """Yield from `items`, computing the next ones in a thread meanwhile.

    The thread starts with the first `next()`. After `close()` it ends at the next item and closes `items`; it has ended
    when this generator has.

    Args:
        items: a yielded None is skipped, and lets the thread end in between.
        depth: number of items in progress or waiting, at least 1.

    Raises:
        Exception: an error of `items`, after the items before it.
    """
    queue: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()
    room, stopped = threading.Semaphore(depth), threading.Event()

    def work() -> None:
        error: BaseException | None = None
        try:
            with closing(items):
                room.acquire()
                for item in items:
                    if item is not None:
                        queue.put((item, None))
                        room.acquire()
                    if stopped.is_set():
                        break
        except BaseException as raised:  # raised again in the consumer's thread
            error = raised
        queue.put((None, error))

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is None:
                return
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()
        thread.join()


def on_grid(bands: Mapping[str, Any], geobox: "GeoBox", attrs: Mapping[str, Any] | None = None) -> "xr.Dataset":
    """Dataset with dims (y, x), coordinates and `spatial_ref` of arrays (numpy, dask) of shape `geobox.shape`.

    The coordinates have the CF attributes `axis`, `standard_name`, `long_name` and `units`.

    Raises:
        ValueError: if the shape of an array differs from the grid's.
    """
    import xarray as xr
    from odc.geo.xr import xr_coords

    for name, values in bands.items():
        if values.shape != tuple(geobox.shape):
            raise ValueError(f"band {name} has shape {values.shape}, its grid {tuple(geobox.shape)}")
    # Dims are (y, x) for geographic grids as well.
    coords = xr_coords(geobox, dims=("y", "x"))
    is_geographic = geobox.crs is not None and geobox.crs.geographic
    for name, degrees in (("y", "latitude"), ("x", "longitude")):
        standard_name = degrees if is_geographic else f"projection_{name}_coordinate"
        coords[name].attrs |= {
            "axis": name.upper(), "standard_name": standard_name, "long_name": standard_name.replace("_", " "),
        }  # fmt: skip
        coords[name].encoding["_FillValue"] = None  # xarray's default is NaN, which CF forbids
    if "spatial_ref" in coords:
        coords["spatial_ref"].attrs["long_name"] = "coordinate reference system"
    data = {name: (("y", "x"), values, {"grid_mapping": "spatial_ref"}) for name, values in bands.items()}
    return xr.Dataset(data, coords=coords, attrs=dict(attrs or {}))


def geobox_of(tile: "xr.Dataset") -> "GeoBox":
    """The grid of a tile.

    Raises:
        ValueError: if the dataset is not georeferenced.
    """
    import odc.geo.xr  # noqa: F401 - registers the `odc` accessor

    geobox: GeoBox | None = tile.odc.geobox
    if geobox is None:
        raise ValueError("the dataset has no georeference (coordinates y, x and spatial_ref)")
    return geobox


@dataclass(frozen=True)
class TileStream:
    """A tile as a stream of row windows.

    Attributes:
        geobox: grid of the whole tile.
        bands: names of the bands of every window, in storage order.
        windows: datasets of full width, top to bottom, without gap or overlap; can be iterated once.
        attrs: attributes of the whole tile (sun angles, identifiers, parameters), JSON types only.
    """

    geobox: "GeoBox"
    bands: tuple[str, ...]
    windows: "Iterator[xr.Dataset]"
    attrs: dict[str, Any] = field(default_factory=dict)

    def close(self) -> None:
        """Stop computing further windows; needed only if not all of them are consumed."""
        if isinstance(self.windows, Generator):
            self.windows.close()

    def collect(self) -> "xr.Dataset":
        """The whole tile in memory, each pixel once.

        Raises:
            ValueError: if the stream has not the rows of the grid.
        """
        whole: dict[str, np.ndarray[Any, Any]] = {}
        rows = 0
        for window in self.windows:
            arrays = {name: np.asarray(window[name].values) for name in self.bands}
            whole = whole or {name: np.empty(self.geobox.shape, values.dtype) for name, values in arrays.items()}
            height = next(iter(arrays.values())).shape[0]
            for name, values in arrays.items():
                whole[name][rows : rows + height] = values
            rows += height
        if rows != self.geobox.shape[0]:
            raise ValueError(f"the stream has {rows} rows, its grid {self.geobox.shape[0]}")
        return on_grid(whole, self.geobox, self.attrs)

    def rechunked(self, rows: int) -> Iterator[dict[str, np.ndarray[Any, Any]]]:
        """The arrays of the windows, regrouped to `rows` rows each; the last may have fewer."""
        pending: list[dict[str, np.ndarray[Any, Any]]] = []
        held = 0
        for window in self.windows:
            arrays = {name: np.asarray(window[name].values) for name in self.bands}
            height = next(iter(arrays.values())).shape[0]
            start = 0
            while start < height:
                take = min(rows - held, height - start)
                pending.append({name: values[start : start + take] for name, values in arrays.items()})
                held += take
                start += take
                if held == rows:
                    yield _stack(pending)
                    pending, held = [], 0
        if pending:
            yield _stack(pending)


def _stack(parts: list[dict[str, np.ndarray[Any, Any]]]) -> dict[str, np.ndarray[Any, Any]]:
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
