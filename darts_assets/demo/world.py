"""A small deterministic Arctic on disk, in the formats of the data providers.

`scenes/<id>/<id>.json` (CDSE layout), `arcticdem/catalog.json` (PGC layout), `tcvis/tcvis_<vintage>.tif`, and the true
outlines in `truth.gpkg`.
"""

import json
import logging
import os
import shutil
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
from affine import Affine
from filelock import FileLock
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry
from rasterio.features import rasterize

from darts_assets.cubes.tcvis import vintage_for
from darts_assets.demo.demo_scenes import ACQUISITIONS, EPSG, Acquisition
from darts_assets.demo.landscape import make_landscape
from darts_assets.demo.layers import DEM_NODATA, dem_tiles, no_trends, tcvis_grid, trends
from darts_assets.demo.noise import Field
from darts_assets.demo.optics import Image, add_block
from darts_assets.demo.polar_outlines import Outline
from darts_assets.demo.provider_items import cdse_item, pgc_item, static_catalog
from darts_assets.demo.thaw_slumps import disturb
from darts_assets.demo.world_blocks import LARGEST, blocks_of
from darts_assets.demo.write_cog import write_cog
from darts_assets.errors import SettingsError
from darts_assets.geo.geodesic import geodesic_areas
from darts_assets.stores.location import StoreLocation

_log = logging.getLogger(__name__)

_MANIFEST = "world.json"
_FORMAT = 1
"""Increase when the same parameters give another world."""

_POLAR = "EPSG:3413"
_MARGIN = 1000
"""Margin of the ground around the scenes, metres."""

_S2_BANDS = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}


@dataclass(frozen=True, slots=True)
class World:
    """Paths of a demo world.

    Attributes:
        folder: root folder.
        items: STAC items of the scenes; the first is the clear one.
        arcticdem: STAC catalog of the elevation tiles.
        tcvis: path of the trends with the placeholder `{vintage}`.
        truth: outlines of the slumps (GeoPackage): `scene_id`, `slump_id`, `area_m2`.
    """

    folder: Path
    items: tuple[Path, ...]
    arcticdem: Path
    tcvis: str
    truth: Path


@dataclass(frozen=True, slots=True)
class _Parameters:
    seed: int
    scenes: int
    size: int
    slumps: int

    def __post_init__(self) -> None:
        if not 1 <= self.scenes <= len(ACQUISITIONS):
            raise SettingsError(f"scenes: a demo world has 1 to {len(ACQUISITIONS)} scenes, not {self.scenes}")
        if self.size < 200 or self.size > 10980 or self.size % 2:
            raise SettingsError(f"size: a demo scene has an even number of 200 to 10980 pixels, not {self.size}")
        if self.size > LARGEST and self.scenes > 1:
            raise SettingsError(f"scenes: a demo world with scenes of more than {LARGEST} pixels has one scene")
        if self.seed < 0 or self.slumps < 0:
            raise SettingsError("seed, slumps: must not be negative")

    @property
    def acquisitions(self) -> tuple[Acquisition, ...]:
        return ACQUISITIONS[: self.scenes]

    @property
    def manifest(self) -> dict[str, int]:
        return {"format": _FORMAT, "seed": self.seed, "scenes": self.scenes, "size": self.size, "slumps": self.slumps}


def build_world(folder: Path, seed: int = 7, scenes: int = 3, size: int = 1500, slumps: int = 14) -> World:
    """Build a world in a folder, or return the existing one. The folder is complete or absent at any time.

    Args:
        folder: destination; a world of other parameters is replaced, any other content refused.
        seed: seed of all random numbers; the same seed gives the same pixels.
        scenes: 1 to 3: a clear scene, a cloudy one that shares half its ground, one of an old processing baseline.
        size: rows and columns of each scene (10 m pixels), even; above 3000 only the clear scene is possible.
        slumps: number of slumps per scene area.

    Raises:
        SettingsError: if a parameter is out of range, or the folder contains anything but a demo world.
    """
    parameters = _Parameters(seed, scenes, size, slumps)
    folder = Path(folder).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (existing := _manifest(folder)) == parameters.manifest:
            return _world(folder, parameters)
        if existing is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise SettingsError(f"{folder} exists and is not a demo world; choose another folder")
        # Left by killed processes; the lock excludes running ones.
        for leftover in folder.parent.glob(f".{folder.name}.building-*"):
            shutil.rmtree(leftover)
        building = folder.with_name(f".{folder.name}.building-{os.getpid()}")
        _build(building, parameters)
        replaced = building.with_name(f"{building.name}-replaced")
        if folder.exists():
            # Move it away first: a partly deleted world would look complete.
            folder.rename(replaced)
        building.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
        return _world(folder, parameters)


def holds_other_world(folder: Path, seed: int = 7, scenes: int = 3, size: int = 1500, slumps: int = 14) -> bool:
    """Whether a folder contains a world of other parameters, which `build_world` would replace."""
    return _manifest(folder) not in (None, _Parameters(seed, scenes, size, slumps).manifest)


def is_demo_store(store: StoreLocation) -> bool:
    """Whether a store is that of a demo: `darts-assets demo` puts store and world into one folder."""
    return store.is_local and _manifest(Path(store.url).parent / "world") is not None


def _manifest(folder: Path) -> dict[str, int] | None:
    """Parameters of the world in a folder; None without a world."""
    try:
        manifest: dict[str, int] = json.loads((folder / _MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return manifest


def _world(folder: Path, parameters: _Parameters) -> World:
    return World(
        folder=folder,
        items=tuple(folder / "scenes" / a.id / f"{a.id}.json" for a in parameters.acquisitions),
        arcticdem=folder / "arcticdem" / "catalog.json",
        tcvis=str(folder / "tcvis" / "tcvis_{vintage}.tif"),
        truth=folder / "truth.gpkg",
    )


def _build(folder: Path, parameters: _Parameters) -> None:
    grids = {acquisition: acquisition.geobox(parameters.size) for acquisition in parameters.acquisitions}
    extents = [grid.extent for grid in grids.values()]
    area = _polar_grid(extents)
    hole = _hole(extents[-1])
    seed = parameters.seed
    count = parameters.slumps * reduce(or_, extents).area / extents[0].area
    trends_grid = tcvis_grid(_polar_grid(extents, margin=0))
    images = {acquisition: Image.blank(grid) for acquisition, grid in grids.items()}
    vintages = {vintage: no_trends(trends_grid) for vintage in {vintage_for(a.sensed.year) for a in grids}}
    elevation = np.empty(area.shape, dtype=np.float32)
    slumps: list[Outline] = []
    share = 0.0
    for block in blocks_of(area, parameters.size):
        _log.info("making the ground: %d x %d pixels", *block.geobox.shape)
        slumps_here = round(count * (share + block.share)) - round(count * share)
        share += block.share
        allowed = _where_slumps_may_be(block.geobox, extents, hole) & block.within
        land = make_landscape(block.geobox, seed)
        ground = disturb(land, allowed, block.within, slumps_here, seed, block.numbers)
        slumps += ground.slumps
        elevation[block.core] = ground.landscape.elevation[block.inner]
        for acquisition, image in images.items():
            _log.info("imaging %s", acquisition.id)
            add_block(image, ground, acquisition, block, seed)
        for vintage, bands in vintages.items():
            if window := block.window_of(trends_grid):
                part = trends_grid[window]
                for name, values in trends(ground, part, vintage, seed).items():
                    np.copyto(bands[name][window], values, where=block.covers(part))

    folder.mkdir(parents=True)
    for acquisition in grids:
        _write_scene(folder / "scenes" / acquisition.id, images.pop(acquisition), acquisition)
    for vintage, bands in vintages.items():
        write_cog(folder / "tcvis" / f"tcvis_{vintage}.tif", bands, trends_grid, nodata=None)
    _write_arcticdem(folder / "arcticdem", elevation, area, hole)
    _truth(slumps, grids).to_file(folder / "truth.gpkg", layer="truth", driver="GPKG")
    (folder / _MANIFEST).write_text(json.dumps(parameters.manifest, indent=2))


def _write_scene(folder: Path, image: Image, acquisition: Acquisition) -> None:
    grid = image.geobox
    stem = f"T{acquisition.tile}_{acquisition.sensed:%Y%m%dT%H%M%S}"
    bands = {band: folder / "R10m" / f"{stem}_{band}_10m.tif" for band in _S2_BANDS}
    for band, path in bands.items():
        write_cog(path, {band: image.numbers[_S2_BANDS[band]]}, grid, nodata=0)
    classification = folder / "R20m" / f"{stem}_SCL_20m.tif"
    write_cog(classification, {"SCL": image.classes}, grid.zoom_out(2), nodata=0, overviews="nearest")
    item = cdse_item(acquisition, grid, image.classes, bands, classification, folder)
    (folder / f"{acquisition.id}.json").write_text(json.dumps(item, indent=1))


def _write_arcticdem(folder: Path, elevation: Field, area: GeoBox, hole: tuple[float, float]) -> None:
    items = []
    for tile in dem_tiles(elevation, area, hole):
        name = f"{tile.supertile}_10m_v4.1"
        home = folder / tile.supertile
        dem, datamask = home / f"{name}_dem.tif", home / f"{name}_datamask.tif"
        write_cog(dem, {"dem": tile.dem}, tile.geobox, nodata=DEM_NODATA)
        write_cog(datamask, {"datamask": tile.datamask}, tile.geobox, nodata=0, overviews="nearest")
        item = pgc_item(tile.supertile, tile.geobox, dem, datamask, float(tile.datamask.mean()), home)
        items.append(home / f"{name}.json")
        items[-1].write_text(json.dumps(item, indent=1))
    catalog = static_catalog("arcticdem-mosaics-v4.1-10m", "Elevation of the demo world", items, folder)
    (folder / "catalog.json").write_text(json.dumps(catalog, indent=1))


def _truth(slumps: list[Outline], grids: dict[Acquisition, GeoBox]) -> gpd.GeoDataFrame:
    """Whole outlines of the slumps that intersect each scene."""
    outlines = gpd.GeoDataFrame(
        {"slump_id": [f"slump-{number:03d}" for number in range(1, len(slumps) + 1)]},
        geometry=[slump.polygon for slump in slumps],
        crs=_POLAR,
    ).to_crs(EPSG)
    outlines["area_m2"] = geodesic_areas(outlines)
    rows = [
        (acquisition.id, row.slump_id, row.area_m2, row.geometry)
        for acquisition, grid in grids.items()
        for row in outlines[outlines.intersects(grid.extent.geom)].itertuples()
    ]
    return gpd.GeoDataFrame(rows, columns=["scene_id", "slump_id", "area_m2", "geometry"], crs=EPSG)


def _polar_grid(extents: list[Geometry], margin: int = _MARGIN) -> GeoBox:
    """The 10 m grid of the elevation mosaic around scenes."""
    box = reduce(or_, [extent.to_crs(_POLAR, resolution=500) for extent in extents]).boundingbox
    left, bottom = (int(edge // 10) * 10 - margin for edge in (box.left, box.bottom))
    right, top = (int(-(-edge // 10)) * 10 + margin for edge in (box.right, box.top))
    return GeoBox(((top - bottom) // 10, (right - left) // 10), Affine(10, 0, left, 0, -10, top), _POLAR)


def _hole(extent: Geometry) -> tuple[float, float]:
    """Centre of the hole in the elevation, in the lower right part of a scene."""
    box = extent.boundingbox
    centre = Geometry(
        {"type": "Point", "coordinates": (box.left + 0.7 * box.span_x, box.bottom + 0.2 * box.span_y)}, extent.crs
    )
    x, y = centre.to_crs(_POLAR).coords[0]
    return x, y


def _where_slumps_may_be(area: GeoBox, extents: list[Geometry], hole: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Mask of the pixels at least 200 m inside a scene and 400 m from the hole."""
    inside = reduce(or_, [extent.to_crs(_POLAR, resolution=500).buffer(-200) for extent in extents])
    near_hole = Geometry({"type": "Point", "coordinates": hole}, _POLAR).buffer(400)
    shape = (int(area.shape[0]), int(area.shape[1]))
    return rasterize([(inside - near_hole).geom], shape, transform=area.affine).astype(bool)
