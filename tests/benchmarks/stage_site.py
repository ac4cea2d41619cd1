"""A folder with a demo world of one scene and the store that the stages fill."""

import shutil
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import xarray as xr

from darts_assets.cubes import Cube
from darts_assets.definitions import build_defs
from darts_assets.demo import World, build_world
from darts_assets.features import PreprocessParameters
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.scene import Scene
from darts_assets.settings import Settings
from darts_assets.stores.publish import Place
from darts_assets.stores.tiles import read_tile, write_tile
from darts_assets.tiles import TileStream, geobox_of, row_windows

TPI_RADIUS = PreprocessParameters().tpi_outer_radius


class Site:
    """A folder with a demo world of one scene and the store that the stages fill."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        slumps = max(1, round(14 * (size / 1500) ** 2))  # as dense as in the demo
        self.world: World = build_world(folder / "world", scenes=1, size=size, slumps=slumps)
        settings = Settings.model_construct(
            store=str(folder / "store"), arcticdem=str(self.world.arcticdem), tcvis=self.world.tcvis
        )
        self._resources = build_defs(settings).resources or {}

    @cached_property
    def scene(self) -> Scene:
        (scene,) = self.resource("scenes").register(SENTINEL2, [str(self.world.items[0])])
        return scene

    def resource(self, name: str) -> Any:
        return self._resources[name]

    def place(self, kind: str, step: str) -> Place:
        return self.resource("store").place(kind, SENTINEL2.name, step, self.scene.id)

    def raw_place(self) -> Place:
        return self.resource("raw").place(self.scene)

    def read(self, step: str) -> xr.Dataset:
        return read_tile(self.place("tiles", step))

    def scratch(self) -> Path:
        """An empty folder."""
        shutil.rmtree(folder := self.folder / "scratch", ignore_errors=True)
        folder.mkdir()
        return folder

    def optical(self) -> xr.Dataset:
        return self.resource("raw").optical(SENTINEL2, self.scene, {})[0]

    def layers(self, optical: xr.Dataset) -> dict[str, xr.Dataset]:
        bands = self.resource("models").bands
        return self.resource("cubes").windows(SENTINEL2, self.scene, geobox_of(optical), bands, TPI_RADIUS)

    def chunks(self) -> "Iterator[tuple[str, Cube, list[str]]]":
        """The cubes that the scene needs, and their chunks under it."""
        cubes, raw = self.resource("cubes"), self.resource("raw")
        for layer in cubes.layers_for(self.resource("models").bands):
            geobox = raw.geobox(SENTINEL2, self.scene)
            yield layer, *cubes.chunks_under(layer, SENTINEL2, self.scene, geobox, TPI_RADIUS)


def consume(tile: xr.Dataset) -> None:
    """Read a lazy dataset in row windows."""
    dim = str(next(iter(tile.data_vars.values())).dims[0])
    for rows in row_windows(tile.sizes[dim]):
        tile.isel({dim: rows}).load()


def write_again(site: Site, tile: xr.Dataset, encoded: bool = False) -> Callable[[], Any]:
    """Writes a tile of that size: its middle window, which is in memory before the clock starts, again and again."""
    geobox = geobox_of(tile)
    height = tile.sizes["y"]
    windows = list(row_windows(height))
    held = tile.isel(y=windows[len(windows) // 2 - (len(windows) > 1)]).load()
    rows = (held.isel(y=slice(0, rows.stop - rows.start)) for rows in windows)
    place = site.resource("store").place("scratch", "again")
    stream = TileStream(geobox, tuple(map(str, tile.data_vars)), rows)
    return lambda: write_tile(place, stream, metadata={}, encoded=encoded)
