"""Copies of published products for use elsewhere, with a merged GeoPackage and a QGIS project.

```
<target>/<family>/<scene>/<file>     the products, and `versions.json`: file -> version in the store
<target>/slumps.gpkg                 layers `prediction_segments` and `prediction_extent` of all selected scenes
<target>/slumps.qgs                  both layers and a group for each scene
```
"""

import datetime as dt
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import obstore
import pyogrio
from pyproj import CRS
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from darts_assets.catalog.catalog_store import Products, Tree, concurrent_map, pointers, read_products
from darts_assets.catalog.qgis_project import Layer, QgisProject
from darts_assets.errors import DartsError, NotReadableError, SettingsError
from darts_assets.geo.antimeridian import lonlat_polygons
from darts_assets.geo.product_tables import Origin, with_origin
from darts_assets.scene import scene_label
from darts_assets.stores.location import StoreLocation

MERGED = ("prediction_segments", "prediction_extent")
"""Tables that are merged, and their layers in the GeoPackage."""

_GEOPACKAGE, _PROJECT, _VERSIONS = "slumps.gpkg", "slumps.qgs", "versions.json"
_STEMS = {"polygonized": "prediction_segments", "extent": "prediction_extent"}
_YEAR = re.compile(r"\d{4}")
_EXPECTED_TIME = "expected a year (2023) or a date (2023-07-15)"


@dataclass(frozen=True)
class SceneSelection:
    """Which scenes to export; by default all with products.

    Attributes:
        ids: ids of scenes; empty for all.
        family: family of the scenes, None for all.
        area: area in EPSG:4326 that their footprints intersect, None for everywhere.
        start: earliest sensing time, a year or date; None for no limit.
        end: latest sensing time, a year or date, included; None for no limit.
    """

    ids: Sequence[str] = ()
    family: str | None = None
    area: BaseGeometry | None = None
    start: str | None = None
    end: str | None = None

    def __post_init__(self) -> None:
        _first_day(self.start or "2000")
        _first_day(self.end or "2000")

    def includes(self, products: Products) -> bool:
        """Whether time and footprint of a scene match."""
        day = dt.datetime.fromisoformat(products.facts["metadata"]["datetime"]).astimezone(dt.UTC).date()
        if self.start and day < _first_day(self.start):
            return False
        if self.end and day > (dt.date(int(self.end), 12, 31) if _YEAR.fullmatch(self.end) else _first_day(self.end)):
            return False
        return self.area is None or bool(self.area.intersects(shape(products.facts["footprint"])))


@dataclass
class ExportResult:
    """Result of an export.

    Attributes:
        scenes: number of exported scenes.
        copied: number of copied files.
        unchanged: number of files that were exported before.
        rows: rows of each merged layer.
        failed: scene -> why it, or a part of it, was not exported.
    """

    scenes: int = 0
    copied: int = 0
    unchanged: int = 0
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(MERGED, 0))
    failed: dict[str, str] = field(default_factory=dict)


def export_scenes(
    root: StoreLocation,
    target: StoreLocation,
    selection: SceneSelection,
    *,
    products: Collection[str] = (),
    crs: str = "EPSG:4326",
    progress: Callable[[str], None] = lambda line: None,
) -> ExportResult:
    """Copy the current products of a selection of scenes.

    Files that an earlier export has copied from the same version are skipped. The merged GeoPackage and the project
    contain the scenes of this selection only. One scene is in memory at a time. Each file is replaced atomically.

    Args:
        root: root of the store.
        target: folder or bucket to copy to, outside the store.
        selection: which scenes.
        products: names of products; by default all that a scene has.
        crs: CRS of the merged layers.
        progress: receives a line for each scene.

    Raises:
        SettingsError: if the target lies in the store, the CRS is unknown, or no scene is selected.
        StoreError: if the store or the target does not respond.
    """
    for place in (root, root.child("products")):
        if f"{_absolute(target)}/".startswith(f"{_absolute(place)}/") and target.endpoint == place.endpoint:
            raise SettingsError(f"{target}: the target lies in the store {place}; choose a location outside of it")
    try:
        system = CRS(crs)
    except Exception as error:
        raise SettingsError(f"{crs!r} is not a CRS; expected for example EPSG:3413") from error
    done, store, copier = ExportResult(), Tree(root), _Copier(root.child("products"), target)
    with tempfile.TemporaryDirectory() as folder:
        merged, project = Path(folder, _GEOPACKAGE), QgisProject("Thaw slumps", crs)
        groups: list[tuple[str, list[Layer]]] = []
        layers: set[str] = set()
        for scene in _selected(store, selection, done):
            files = {name: file for name, file in scene.facts["files"].items() if _is_chosen(name, products)}
            if absent := set(products) - {_product_of(name) for name in scene.facts["files"]}:
                done.failed[scene.scene] = f"there is no product {', '.join(sorted(absent))}; materialize `products`"
            try:
                copied = copier.copy(scene, files)
                for table in MERGED:
                    if f"{table}.parquet" in scene.contents:
                        done.rows[table] += _merge(store, scene, table, merged, system, append=table in layers)
                        layers.add(table)
            except (DartsError, OSError, obstore.exceptions.BaseError) as error:
                done.failed[scene.scene] = str(error)
                continue
            done.scenes, done.copied = done.scenes + 1, done.copied + copied
            done.unchanged += len(files) - copied
            groups.append((scene.scene, _layers(scene, files)))
            facts = scene.facts["metadata"]
            label = scene_label(scene.scene, dt.datetime.fromisoformat(facts["datetime"]), facts.get("tile"))
            progress(f"{scene.scene}: {label}, {copied} of {len(files)} files copied")
        if not done.scenes:
            reasons = "".join(f"\n{scene}: {reason}" for scene, reason in done.failed.items())
            raise SettingsError(f"no scene with products in {root} matches the selection{reasons}")
        if merged.exists():
            tables = [Layer(table, _GEOPACKAGE, crs, table=table) for table in MERGED if table in layers]
            project.add_group("All scenes", tables, visible=True)
            copier.put(_GEOPACKAGE, merged)
        for name, own in groups:
            project.add_group(name, own, visible=False)
        project.write(Path(folder, _PROJECT))
        copier.put(_PROJECT, Path(folder, _PROJECT))
    return done


def _first_day(text: str) -> dt.date:
    try:
        return dt.date(int(text), 1, 1) if _YEAR.fullmatch(text) else dt.date.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"{text!r} is not a time; {_EXPECTED_TIME}") from error


def _absolute(location: StoreLocation) -> str:
    return str(location.path) if location.is_local else location.url


def _product_of(file: str) -> str:
    stem = file.partition(".")[0].partition("-")[0]
    return next((product for product, name in _STEMS.items() if name == stem), stem)


def _is_chosen(file: str, products: Collection[str]) -> bool:
    return not products or _product_of(file) in products


def _selected(store: Tree, selection: SceneSelection, done: ExportResult) -> Iterator[Products]:
    families = store.location.child("products").folders()
    wanted, present = set(selection.ids), set()
    for family in families:
        if selection.family not in (None, family):
            continue
        ids = [scene for scene in sorted(pointers(store, family)) if not wanted or scene in wanted]
        present |= set(ids)
        for products, scene in zip(concurrent_map(partial(read_products, store, family), ids), ids, strict=True):
            if products is None:
                done.failed[scene] = "its products are damaged or of an early version; materialize `products` again"
            elif selection.includes(products):
                yield products
    for scene in sorted(wanted - present):
        done.failed[scene] = "the store has no products of this scene"


class _Copier:
    """Copies products from their folder to the target; on the same bucket by server-side copies."""

    def __init__(self, root: StoreLocation, target: StoreLocation) -> None:
        self._root, self._target = root, target
        self._tree = Tree(target)
        self._source, self._objects = root.objects(), target.objects()
        same_service = (root.endpoint, root.region) == (target.endpoint, target.region)
        self._bucket = None
        if not root.is_local and not target.is_local and same_service and root.bucket == target.bucket:
            self._bucket = StoreLocation(f"s3://{root.bucket}", root.endpoint, root.region).objects()

    def copy(self, scene: Products, files: Collection[str]) -> int:
        """Copy files of a scene that were not exported before; returns their number."""
        folder = f"{scene.family}/{scene.scene}"
        before = self._tree.document(f"{folder}/{_VERSIONS}") or {}
        sizes = {entry["path"]: entry["size"] for batch in obstore.list(self._objects, f"{folder}/") for entry in batch}
        new = [
            name
            for name in files
            if before.get(name) != scene.contents[name]
            or sizes.get(f"{folder}/{name}") != scene.facts["files"][name]["bytes"]
        ]
        for _ in concurrent_map(
            lambda name: self._copy(scene.key(name).removeprefix("products/"), f"{folder}/{name}"), new
        ):
            pass
        if new:
            versions = {**before, **{name: scene.contents[name] for name in new}}
            self._tree.write(f"{folder}/{_VERSIONS}", versions)
        return len(new)

    def put(self, key: str, file: Path) -> None:
        """Write a local file to the target."""
        obstore.put(self._objects, key, file)

    def _copy(self, source: str, key: str) -> None:
        if self._bucket:
            start, end = (f"{prefix}/" if prefix else "" for prefix in (self._root.prefix, self._target.prefix))
            obstore.copy(self._bucket, start + source, end + key)
        elif self._root.is_local:
            self.put(key, self._root.path / source)
        else:
            with tempfile.NamedTemporaryFile() as file:
                for chunk in obstore.get(self._source, source).stream():
                    file.write(bytes(chunk))
                file.flush()
                self.put(key, Path(file.name))


def _merge(store: Tree, scene: Products, table: str, path: Path, crs: CRS, *, append: bool) -> int:
    """Add a table of a scene to the merged GeoPackage, whose layer it creates or appends to; returns the rows."""
    name = f"{table}.parquet"
    rows = store.table(scene.key(name))
    if rows is None:
        raise NotReadableError(f"{scene.key(name)} does not exist (any more)")
    rows = _complete(rows, scene.facts["metadata"])
    lonlat = crs == CRS("EPSG:4326")
    geometry = lonlat_polygons(rows.geometry.to_numpy(), rows.crs) if lonlat else rows.geometry.to_crs(crs).to_numpy()
    rows = gpd.GeoDataFrame(rows.drop(columns="geometry"), geometry=geometry, crs=crs)
    pyogrio.write_dataframe(
        rows, path, layer=table, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True, append=append
    )
    return len(rows)


def _complete(rows: gpd.GeoDataFrame, metadata: Mapping[str, Any]) -> gpd.GeoDataFrame:
    """The rows with the columns that products of earlier versions lack."""
    if "clear_fraction" not in rows:
        rows["clear_fraction"] = np.nan
    if "Region_ID" in rows and "model_spread" not in rows:
        rows.insert(rows.columns.get_loc("npixel"), "model_spread", np.nan)
    if "scene_id" in rows:
        return rows
    sensed, polygons = dt.datetime.fromisoformat(metadata["datetime"]), metadata["steps"]["polygons"]
    origin = Origin(metadata["scene_id"], sensed, list(metadata["models"]), polygons["code_version"])
    return with_origin(rows, origin)


def _layers(scene: Products, files: Mapping[str, Mapping[str, Any]]) -> list[Layer]:
    """Layers of a scene's files: tables above rasters."""
    folder, crs = f"{scene.family}/{scene.scene}", scene.facts["grid"]["crs"]
    tables = [
        Layer(Path(name).stem, f"{folder}/{name}", crs, table=file["layer"])
        for name, file in files.items()
        if "layer" in file
    ]
    rasters = [
        Layer(Path(name).stem, f"{folder}/{name}", crs, bands=[_band_name(name, band) for band in file["bands"]])
        for name, file in files.items()
        if "bands" in file
    ]
    return [*sorted(tables, key=lambda layer: layer.name, reverse=True), *rasters]


def _band_name(file: str, band: Mapping[str, Any]) -> str:
    """Name of a band for its style; probabilities of one model have those of the ensemble."""
    return str(band["name"]).partition("-")[0] or Path(file).stem
