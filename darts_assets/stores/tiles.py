"""Tiles as Zarr: written as a stream, published atomically, read lazily.

Each version is a Zarr store with all bands, stored as integers with CF attributes, and consolidated metadata:
`xarray.open_zarr(place.current_url())` opens it, scaled and masked. `read_tile` decodes to float32 (xarray to float64)
and raises for missing chunks, where Zarr returns fill values.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import obstore
import xarray as xr
import zarr
from affine import Affine
from odc.geo.geobox import GeoBox
from zarr.storage import ObjectStore

from darts_assets.bands import band, stored_band
from darts_assets.errors import NotReadableError, StoreError
from darts_assets.stores.bring_in import bring_in
from darts_assets.stores.group_attributes import band_attributes, group_attributes
from darts_assets.stores.layout import CHUNK, FreshStore, create_band, lazy_band, open_band
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import ZARR, Manifest, Place, Version
from darts_assets.stores.statistics import BandGatherer, BandStatistics
from darts_assets.tiles import TileStream, on_grid

# Readers without support ignore consolidated metadata; xarray warns of their absence. `catch_warnings` around the call
# is not safe in threads.
warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")

WRITERS = 4
"""Bands encoded and written concurrently; each needs 50 MB per window of a full scene."""

Progress = Callable[[int, int], None]
"""Called with the number of written rows and of all rows."""


@dataclass(frozen=True)
class WrittenTile:
    """Result of writing a tile.

    Attributes:
        url: path or URL of the Zarr store.
        size: compressed bytes.
        coverage: band -> fraction of pixels that are neither NaN nor the fill value (0 by default).
        statistics: band -> statistics.
        preview: band -> every n-th pixel, at most 256 on a side.
    """

    url: str
    size: int
    coverage: dict[str, float]
    statistics: dict[str, BandStatistics]
    preview: dict[str, np.ndarray[Any, Any]]


def write_tile(
    place: Place,
    stream: TileStream,
    *,
    metadata: Mapping[str, Any],
    keep: Mapping[str, str] | None = None,
    encoded: bool = False,
    progress: Progress | None = None,
) -> WrittenTile:
    """Write a tile window by window and publish it in one step.

    Args:
        place: target.
        stream: windows in memory dtypes; they are encoded by the band codecs.
        metadata: JSON facts for the manifest.
        keep: bands of the current manifest (name -> version) that become part of the new version, without a copy on a
            local path.
        encoded: whether the windows hold stored values already, with CF attributes on their variables.
        progress: called after each window.

    Returns:
        Size, coverage, statistics and previews; coverage and statistics are also stored in the manifest.

    Raises:
        ValueError: if the stream ends early.
        StoreError: if another writer has started, or has replaced a band of `keep`.
    """
    height, width = (int(n) for n in stream.geobox.shape)
    with place.new_version(ZARR) as version:
        _bring_in_kept(place, version, keep or {})
        group = zarr.create_group(FreshStore(_zarr(version.location)), zarr_format=3)
        arrays: dict[str, zarr.Array[Any]] = {}
        row, gathered = 0, dict[str, BandGatherer]()
        windows = TileStream(stream.geobox, stream.bands, _watched(stream, arrays, group, (height, width), encoded))

        def write(name: str, values: np.ndarray[Any, Any]) -> None:
            array = arrays[name]
            stored = values if encoded else band(name).encode(values)
            array[row : row + len(values)] = stored
            gathered[name].take(row, values, stored)

        with closing(stream), ThreadPoolExecutor(WRITERS, thread_name_prefix="bands") as pool:
            for part in windows.rechunked(CHUNK):
                gathered = gathered or {name: _gatherer(name, arrays[name]) for name in part}
                for _ in pool.map(write, part.keys(), part.values()):
                    pass  # re-raises exceptions of `write`
                row += len(next(iter(part.values())))
                if progress:
                    progress(row, height)
        if row != height:
            raise ValueError(f"{place.location}: the stream ended after {row} of {height} rows")
        contents = dict.fromkeys([*(keep or {}), *stream.bands], version.id)
        finish_version(version, stream.geobox, group_attributes(metadata, stream.attrs, contents))
        coverage = {name: round(each.pixels / (height * width), 6) for name, each in gathered.items()}
        statistics = {name: band.statistics() for name, band in gathered.items()}
        facts = {**metadata, "grid": grid_record(stream.geobox), "attrs": stream.attrs, "coverage": coverage}
        facts["statistics"] = {name: each.record() for name, each in statistics.items()}
        if keep and version.base:
            for about in ("coverage", "statistics"):
                before = version.base.metadata.get(about, {})
                facts[about] |= {name: kept for name, kept in before.items() if name in keep}
        place.publish(version, contents, facts)
    objects = (entry for batch in obstore.list(version.location.objects()) for entry in batch)
    size = sum(entry["size"] for entry in objects if entry["path"].partition("/")[0] not in (keep or {}))
    return WrittenTile(
        version.location.url, size, coverage, statistics, {name: each.preview for name, each in gathered.items()}
    )


def read_tile(
    place: Place, bands: Sequence[str] | None = None, *, decode: bool = True, manifest: Manifest | None = None
) -> xr.Dataset:
    """Open a published tile as dask arrays with one block per row of chunks; slices read only their chunks.

    Args:
        place: location of the tile.
        bands: bands to read, by default all.
        decode: physical values in memory dtypes (float32 with NaN); otherwise stored values with CF attributes.
        manifest: content to read, by default the current one.

    Returns:
        Dataset with dims (y, x), the tile's attributes, and its grid as coordinates.

    Raises:
        NotReadableError: if nothing is published, the tile was released, a band is not in it, or (on computing) a chunk
            is missing.
    """
    manifest = place.require_values(manifest)
    names = list(bands) if bands is not None else list(manifest.contents)
    absent = [name for name in names if name not in manifest.contents]
    if absent:
        raise NotReadableError(f"{place.location}: no band {', '.join(absent)}; it has {', '.join(manifest.contents)}")
    arrays = {
        name: open_band(_zarr(place.location.child(manifest.contents[name]), read_only=True), name) for name in names
    }
    # Coordinates come from the grid in the manifest, so that opening a tile reads no array.
    variables = {
        name: lazy_band(array, stored_band(name, array.dtype) if decode else None) for name, array in arrays.items()
    }
    tile = on_grid(variables, _geobox(manifest), manifest.metadata["attrs"])
    if decode:
        return tile
    return tile.assign({name: tile[name].assign_attrs(dict(array.attrs)) for name, array in arrays.items()})


def read_geobox(place: Place, manifest: Manifest | None = None) -> GeoBox:
    """The grid of a published tile, from its manifest.

    Raises:
        NotReadableError: if nothing is published.
    """
    return _geobox(manifest or place.require())


def read_statistics(place: Place, manifest: Manifest | None = None) -> dict[str, BandStatistics]:
    """The statistics of each band of a published tile, from its manifest.

    Raises:
        NotReadableError: if nothing is published, or the tile was written by a version without statistics.
    """
    records = (manifest or place.require()).metadata.get("statistics")
    if records is None:
        raise NotReadableError(f"{place.location}: written without statistics; materialize the partition again")
    return {name: BandStatistics.from_record(record) for name, record in records.items()}


def read_shapes(place: Place, manifest: Manifest | None = None) -> dict[str, tuple[int, int]]:
    """Shape of each band's array (rows, columns), from its metadata; reads one small object per band.

    Raises:
        NotReadableError: if nothing is published, or the tile was released.
    """
    shapes = {}
    for name, version in place.require_values(manifest).contents.items():
        rows, columns = open_band(_zarr(place.location.child(version), read_only=True), name).shape
        shapes[name] = (int(rows), int(columns))
    return shapes


def _gatherer(name: str, array: "zarr.Array[Any]") -> BandGatherer:
    rows, columns = array.shape
    is_probability = name.partition("-")[0] == "probabilities"
    scale = stored_band(name, array.dtype).scale if is_probability and array.dtype != np.uint8 else None
    return BandGatherer((int(rows), int(columns)), array.fill_value, round(0.01 / scale) if scale else 0)


def grid_record(geobox: GeoBox) -> dict[str, Any]:
    """A grid as JSON: crs (EPSG or WKT), shape (rows, columns), transform (six numbers)."""
    return {"crs": str(geobox.crs), "shape": list(geobox.shape), "transform": list(geobox.affine)[:6]}


def _geobox(manifest: Manifest) -> GeoBox:
    record = manifest.metadata["grid"]
    return GeoBox(tuple(record["shape"]), Affine(*record["transform"]), record["crs"])


def _zarr(location: StoreLocation, read_only: bool = False) -> "ObjectStore[Any]":
    return ObjectStore(location.objects(), read_only=read_only)


def _watched(
    stream: TileStream,
    arrays: dict[str, "zarr.Array[Any]"],
    group: zarr.Group,
    shape: tuple[int, int],
    encoded: bool,
) -> Any:
    """The windows of `stream`; the first one's dtypes and attributes define the arrays."""
    for window in stream.windows:
        if not arrays:
            for name in stream.bands:
                codec = None if encoded else band(name)
                arrays[name] = create_band(
                    group, name, shape, window[name].dtype if codec is None else codec.stored,
                    dict(window[name].attrs) if codec is None else band_attributes(codec, stream.attrs),
                )  # fmt: skip
        yield window


def _bring_in_kept(place: Place, version: Version, keep: Mapping[str, str]) -> None:
    base = version.base or Manifest({})
    if gone := {f"{name} of {kept}" for name, kept in keep.items() if base.contents.get(name) != kept}:
        raise StoreError(
            f"{place.location}: another run has replaced {', '.join(sorted(gone))}, which this run keeps; "
            "start this run again"
        )
    for name, kept in keep.items():
        bring_in(place.location.child(kept), version.location, name)


def finish_version(version: Version, geobox: GeoBox, attrs: Mapping[str, Any]) -> None:
    """Complete the Zarr store of a version whose bands are written: coordinates, attributes, consolidated metadata."""
    store = _zarr(version.location)
    on_grid({}, geobox, attrs).to_zarr(store, mode="a", consolidated=False, zarr_format=3)
    zarr.consolidate_metadata(store, zarr_format=3)
