"""A store as xarray datasets and tables; only reads."""

import datetime as dt
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import obstore
import pandas as pd
import xarray as xr
from obstore.exceptions import BaseError

from darts_assets.errors import NotReadableError, SceneError, SettingsError, StoreError
from darts_assets.settings import settings
from darts_assets.stores import store_layout as layout
from darts_assets.stores.location import StoreLocation, checked_name
from darts_assets.stores.publish import Manifest, Place
from darts_assets.stores.scene_paths import STEPS, scene_paths
from darts_assets.stores.service_errors import in_words
from darts_assets.stores.tiles import read_tile
from darts_assets.stores.vectors import read_table, read_vectors

if TYPE_CHECKING:
    import geopandas as gpd

_READERS = 16
_SHOWN = 5  # scenes or years in messages


def open_store(
    url: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    rooms: Mapping[str, str | os.PathLike[str]] | None = None,
) -> "OpenedStore":
    """Open a store for reading; nothing is read before a method of the result is called.

    Args:
        url: root of the store, a path or `s3://bucket/prefix` (keys come from `AWS_*`); default: `DARTS_STORE`.
        endpoint: URL of an S3-compatible service; default: `DARTS_STORE_ENDPOINT`, or AWS.
        region: S3 region; default: `DARTS_STORE_REGION`.
        rooms: folders that lie elsewhere, `raw` or `products`, with path or `s3://bucket/prefix` at the same service;
            default: those of the settings if `url` is None, else none.

    Raises:
        StoreError: if a URL is not a location.
        SettingsError: for a folder that cannot lie elsewhere.
        NotReadableError: if a local folder does not exist.
    """
    known = settings()
    service = endpoint or known.store_endpoint, region or known.store_region
    root = known.root if url is None else StoreLocation(os.fspath(url), *service)
    if rooms is not None:
        if unknown := ", ".join(rooms.keys() - set(layout.MOVABLE_ROOMS)):
            raise SettingsError(f"{unknown} cannot lie elsewhere; only {', '.join(layout.MOVABLE_ROOMS)} can")
        places = ((name, StoreLocation(os.fspath(place), *service)) for name, place in rooms.items())
        root = replace(root, rooms=tuple(places))
    if root.is_local and not root.path.is_dir():
        raise NotReadableError(f"{root.path}: there is no such folder; expected the root of a store (DARTS_STORE)")
    return OpenedStore(root)


class OpenedStore:
    """The results in a store. Each call reads what is current; what it returns stays one version.

    Attributes:
        root: location of the store.
    """

    def __init__(self, root: StoreLocation) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"<darts_assets store {self.root}>"

    def scenes(self) -> pd.DataFrame:
        """The scenes, sorted by family and date.

        Returns:
            One row per scene: `family`, `scene_id`, `date` (UTC, NaT without a registered item), and for each of
            `STEPS` a bool: whether the store has its result.
        """
        rows = []
        with ThreadPoolExecutor(_READERS) as pool:
            raw = self._raw_names(pool)
            for family in layout.FAMILIES:
                present = {
                    step: _published_below(pool, layout.step_folder(self.root, family, step)) for step in STEPS[1:]
                }
                registered = self._registered(family)
                ids = sorted(registered.union(*present.values()))
                for scene, date in zip(ids, pool.map(lambda scene: self._date(family, scene), ids), strict=True):  # noqa: B023
                    rows.append((family, scene, date, scene in raw, *(scene in present[step] for step in STEPS[1:])))
        table = pd.DataFrame(rows, columns=["family", "scene_id", "date", *STEPS])
        table["date"] = pd.to_datetime(table["date"], utc=True)
        return table.sort_values(["family", "date", "scene_id"], ignore_index=True)

    def raw(self, scene: str) -> xr.Dataset:
        """The bands of a raw scene: lazy, dims (y, x), scaled to reflectance (NaN without data); classes as integers.

        Raises:
            SceneError: if the store does not have the raw scene; with what it has.
        """
        for source in layout.raw_folder(self.root).folders():
            place = layout.raw_place(self.root, source, checked_name(scene))
            if (manifest := place.manifest()) is not None:
                stored = read_tile(place, decode=False, manifest=manifest)
                scaled = xr.decode_cf(stored[[name for name in stored if "scale_factor" in stored[name].attrs]])
                return stored.assign(scaled.data_vars)
        raise self._missing(scene, "raw_scene")

    def tile(self, scene: str) -> xr.Dataset:
        """The preprocessed tile of a scene: lazy, dims (y, x), physical values, NaN or 0 where unknown.

        Raises:
            SceneError: if the store does not have the tile; with what it has.
        """
        return self._tile(scene, "preprocessed_tile")

    def probabilities(self, scene: str) -> xr.Dataset:
        """The probabilities of a scene: lazy float32 in 0 to 1, dims (y, x).

        Raises:
            SceneError: if the store does not have them; with what it has.
        """
        return self._tile(scene, "segmentation")

    def polygons(self, scene: str) -> "dict[str, gpd.GeoDataFrame]":
        """The tables of a scene, in its CRS: `segments` (slumps), `extent` (valid area), `clear`; see `polygonize`.

        Raises:
            SceneError: if the store does not have them; with what it has.
        """
        place, manifest = self._require(scene, "polygons")
        return read_vectors(place, manifest)

    def paths(self, scene: str) -> dict[str, str]:
        """The path or URL of the current result of each step of a scene, for other readers.

        Returns:
            Name of a step -> Zarr store (`xarray.open_zarr` opens it), folder of GeoParquet files (`polygons`), or
            folder of products; only the steps that are there.

        Raises:
            SceneError: if the store has no result of the scene; with what it has.
        """
        try:
            return scene_paths(self.root, scene)
        except NotReadableError:
            raise
        except StoreError:
            raise self._missing(scene, "result") from None

    def inventory(self, year: int) -> "gpd.GeoDataFrame":
        """The sites of thaw slumps of a year, one row each, in EPSG:6931.

        Raises:
            NotReadableError: if the store has no inventory of the year; with the years that it has.
        """
        place = layout.year_place(self.root, year)
        manifest = place.manifest()
        if manifest is None:
            years = layout.years_folder(self.root).folders()
            raise NotReadableError(
                f"{self.root}: there is no inventory of {year}; it has {', '.join(years) or 'none'}. "
                "Materialize inventory/rts of the year"
            )
        return read_table(place, manifest, f"rts_{year}")

    def slumps(self) -> "gpd.GeoDataFrame":
        """The slumps followed through the years, one row each, in EPSG:6931.

        Raises:
            NotReadableError: if the store has none.
        """
        place = layout.slumps_place(self.root)
        manifest = place.manifest()
        if manifest is None:
            raise NotReadableError(f"{self.root}: there are no slumps; materialize inventory/slumps")
        return read_table(place, manifest, "rts_slumps")

    def _tile(self, scene: str, step: str) -> xr.Dataset:
        place, manifest = self._require(scene, step)
        tile = read_tile(place, manifest=manifest)
        return tile.assign_attrs({name: manifest.metadata[name] for name in ("provenance", "coverage")})

    def _require(self, scene: str, step: str) -> tuple[Place, Manifest]:
        for family in layout.FAMILIES:
            place = Place(layout.step_folder(self.root, family, step).child(checked_name(scene)))
            manifest = place.manifest()
            if manifest is not None:
                return place, manifest
        raise self._missing(scene, step)

    def _missing(self, scene: str, step: str) -> SceneError:
        registered = {name for family in layout.FAMILIES for name in self._registered(family)}
        try:
            has = ", ".join(scene_paths(self.root, scene))
        except NotReadableError:
            raise
        except StoreError:
            has = "only an item" if scene in registered else ""
        if has:
            return SceneError(f"scene {scene} has no {step} in {self.root}; it has {has}")
        return SceneError(f"{self.root} has no scene {scene}; it has {_listed(sorted(registered))}")

    def _raw_names(self, pool: ThreadPoolExecutor) -> set[str]:
        folders = (layout.raw_folder(self.root, source) for source in layout.raw_folder(self.root).folders())
        return set().union(*(_published_below(pool, folder) for folder in folders))

    def _registered(self, family: str) -> set[str]:
        folder = layout.items_folder(self.root, family)
        if _is_absent(folder):
            return set()
        try:
            return {key.removesuffix(".json") for key in folder.keys()}  # noqa: SIM118 - not a mapping
        except BaseError as error:
            raise StoreError(f"{folder} cannot be listed: {in_words(error)}") from error

    def _date(self, family: str, scene: str) -> dt.datetime | str | None:
        folder = layout.items_folder(self.root, family)
        if _is_absent(folder):
            return None
        try:
            item = json.loads(bytes(obstore.get(folder.objects(), f"{scene}.json").bytes()))
        except FileNotFoundError:
            return None
        properties: dict[str, Any] = item.get("properties", {})
        return properties.get("datetime") or properties.get("start_datetime")


def _published_below(pool: ThreadPoolExecutor, folder: StoreLocation) -> set[str]:
    """Names of the places in a folder that hold values; one without a version is of a killed or active writer."""
    names = folder.folders()
    manifests = pool.map(lambda name: Place(folder.child(name)).manifest(), names)
    return {name for name, manifest in zip(names, manifests, strict=True) if manifest and not manifest.released}


def _is_absent(location: StoreLocation) -> bool:
    # Opening a folder with obstore would create it.
    return location.is_local and not location.path.exists()


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - _SHOWN} more (`scenes()` lists them)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest if names else "none"
