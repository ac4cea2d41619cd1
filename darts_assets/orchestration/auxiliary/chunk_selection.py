"""Selection of cube chunks by area, scene or key, and their division into batches."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.errors import SettingsError
from darts_assets.features import AuxiliaryParameters
from darts_assets.geo.aoi import read_aoi
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.error_handling import StepConfig
from darts_assets.orchestration.core.partitions import SENTINEL2, SceneFamily
from darts_assets.orchestration.core.pod_resources import CHUNKS_PER_RUN
from darts_assets.orchestration.core.resources import Models
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.redaction import shown

if TYPE_CHECKING:
    from darts_assets.cubes import Cube, CubeGrid

logger = logging.getLogger(__name__)

_BLOCK = 8  # chunks; batches follow squares of this side


class PreparationConfig(StepConfig, AuxiliaryParameters):
    """Options that all jobs which prepare data share; chunks cover a margin of `tpi_outer_radius`."""

    dry_run: bool = Field(False, description="Report what matches and what is missing; register and fetch nothing.")
    chunks_per_step: int = Field(CHUNKS_PER_RUN, description="Number of chunks that one step fills.")

    def check_sizes(self, *names: str) -> None:
        """Raise SettingsError if a number of items per step is below 1."""
        for name in (*names, "chunks_per_step"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: {getattr(self, name)}; expected at least 1")


class PrepareAuxiliaryConfig(PreparationConfig):
    """Chunks to fill: set exactly one of `aoi`, `scenes` and `chunks`."""

    aoi: str = Field(
        "",
        description="Vector file (path or URL) in any CRS: all chunks under its features.",
    )
    aoi_layer: str = Field("", description="The only layer of aoi to read. Default: all layers.")
    scenes: list[str] = Field([], description="Ids of registered scenes: the chunks that their `auxiliary` step needs.")
    chunks: list[str] = Field(
        [],
        description="Keys such as 10m-r0123-c0456, or blocks: 10m-r0120-c0450...10m-r0123-c0456.",
    )
    layers: list[str] = Field(
        [],
        description="Layers (arcticdem, tcvis), with aoi or scenes. Default: those that the models need.",
    )
    arcticdem_resolution: int | None = Field(
        None, description="ArcticDEM resolution in metres (2, 10 or 32), with aoi. Default: as for Sentinel-2 scenes."
    )
    years: list[int] = Field([], description="Years of the scenes, with aoi; they determine the TCVIS vintages.")
    vintages: list[int] = Field([], description="TCVIS vintages (2019, 2020, 2022, 2024), with aoi. Default: newest.")

    def check(self) -> None:
        """Raise SettingsError, with the names of the fields, if fields contradict each other."""
        given = [name for name in ("aoi", "scenes", "chunks") if getattr(self, name)]
        if len(given) != 1:
            problem = f"{' and '.join(given)} are set" if given else "No chunks selected"
            raise SettingsError(f"{problem}: set exactly one of aoi, scenes and chunks")
        area_only = ("aoi_layer", "arcticdem_resolution", "years", "vintages")
        for name in {"aoi": (), "scenes": area_only, "chunks": ("layers", *area_only)}[given[0]]:
            if getattr(self, name):
                raise SettingsError(f"{name} has no effect if chunks are selected by {given[0]}: remove it")
        if self.years and self.vintages:
            raise SettingsError("years and vintages both select TCVIS vintages: set one of them")
        if unknown := set(self.layers) - set(AUXILIARY_LAYERS):
            raise SettingsError(f"layers: {', '.join(sorted(unknown))}; expected {', '.join(AUXILIARY_LAYERS)}")
        self.check_sizes()


@dataclass
class CubeChunks:
    """Selected chunks of one cube.

    Attributes:
        layer: the cube's layer.
        cube: the cube.
        keys: partition keys, without duplicates.
    """

    layer: AuxiliaryLayer
    cube: "Cube"
    keys: list[str]

    @cached_property
    def missing(self) -> list[str]:
        """The keys that are not filled."""
        return self.cube.missing(self.keys)


def select_chunks(
    config: PrepareAuxiliaryConfig, *, cubes: AuxiliaryCubes, models: Models, scenes: SceneRegistry, raw: RawScenes
) -> list[CubeChunks]:
    """The selected chunks of each cube.

    Raises:
        SettingsError: if the config is contradictory, its area cannot be read, or no cube covers the selection.
        SceneError: if a scene is not registered.
        CubeError: if a key is malformed or its cube does not exist.
        SourceUnavailableError: if a service does not answer.
    """
    config.check()
    if config.chunks:
        return _by_key(config.chunks, cubes)
    requested = config.layers or cubes.layers_for(models.bands)
    layers = [layer for layer in AUXILIARY_LAYERS if layer in requested]
    if not layers:
        raise SettingsError("the models need none of the configured layers (DARTS_AUXILIARY): set layers")
    if config.scenes:
        place = "the scenes"
        selected = chunks_under_scenes(
            config.scenes, layers, config.tpi_outer_radius, cubes=cubes, scenes=scenes, raw=raw
        )
    else:
        place, selected = config.aoi, _under_area(config, layers, cubes, scenes)
    outside = [chunks.cube.spec.name for chunks in selected if not chunks.keys]
    if len(outside) == len(selected):
        raise SettingsError(f"no cube covers {place}: {', '.join(outside)}")
    for name in outside:
        logger.warning("%s does not cover %s", name, place)
    return [chunks for chunks in selected if chunks.keys]


def chunks_under_scenes(
    scene_ids: Iterable[str],
    layers: Sequence[AuxiliaryLayer],
    tpi_outer_radius: float,
    *,
    cubes: AuxiliaryCubes,
    scenes: SceneRegistry,
    raw: RawScenes,
    family: SceneFamily | None = None,
    guard: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> list[CubeChunks]:
    """The chunks under registered scenes; a cube that covers none of them has no keys.

    Args:
        scene_ids: ids of registered scenes.
        layers: layers to select chunks of.
        tpi_outer_radius: metres; margin of ArcticDEM around each scene.
        cubes: the cubes.
        scenes: the registry of scenes.
        raw: the store of raw scenes, for their pixel grids.
        family: the family of all scenes; None looks it up for each scene.
        guard: context, entered with the id, in which a scene is processed; it may suppress errors.

    Raises:
        SceneError: if a scene is not registered.
    """
    selected: dict[str, CubeChunks] = {}
    for scene_id in scene_ids:
        with guard(scene_id):
            scene_family = family or scenes.family_of(scene_id)
            scene = scenes.scene(scene_family, scene_id)
            geobox = raw.grid(scene_family, scene)
            for layer in layers:
                cube, keys = cubes.chunks_under(layer, scene_family, scene, geobox, tpi_outer_radius)
                if not keys:
                    logger.warning("%s does not cover %s: its features will be empty", cube.spec.name, scene_id)
                _add(selected, layer, cube, keys)
    return list(selected.values())


def _under_area(
    config: PrepareAuxiliaryConfig, layers: Sequence[AuxiliaryLayer], cubes: AuxiliaryCubes, scenes: SceneRegistry
) -> list[CubeChunks]:
    from darts_assets.cubes import vintage_for
    from darts_assets.cubes.tcvis import VINTAGES

    area = read_aoi(config.aoi, scenes.access.options, config.aoi_layer)
    logger.info("%s: %d features, %s", shown(config.aoi), area.features, area.crs.name)
    resolution = config.arcticdem_resolution or cubes.resolution(SENTINEL2)
    vintages = config.vintages or [vintage_for(year) for year in config.years] or VINTAGES[-1:]
    cubes_of = {
        "arcticdem": lambda: [cubes.arcticdem_cube(resolution)],
        "tcvis": lambda: [cubes.tcvis_cube(vintage) for vintage in sorted(set(vintages))],
    }
    return [
        CubeChunks(layer, cube, cube.spec.grid.chunks_under(area.geometry, area.crs, buffer))
        for layer in layers
        for buffer in [cubes.buffer(layer, resolution, config.tpi_outer_radius)]
        for cube in cubes_of[layer]()
    ]


def _by_key(texts: Sequence[str], cubes: AuxiliaryCubes) -> list[CubeChunks]:
    selected: dict[str, CubeChunks] = {}
    for text in texts:
        first, _, last = text.partition("...")
        layer: AuxiliaryLayer = "arcticdem" if first.partition("-")[0].endswith("m") else "tcvis"
        cube = cubes.cube_of_chunk(layer, first)
        grid = cube.spec.grid
        (top, bottom), (left, right) = map(sorted, zip(grid.parse(first), grid.parse(last or first), strict=True))
        _add(selected, layer, cube, [grid.key(r, c) for r in range(top, bottom + 1) for c in range(left, right + 1)])
    return list(selected.values())


def _add(selected: dict[str, CubeChunks], layer: AuxiliaryLayer, cube: "Cube", keys: Sequence[str]) -> None:
    chunks = selected.setdefault(cube.spec.name, CubeChunks(layer, cube, []))
    known = set(chunks.keys)
    chunks.keys.extend(key for key in keys if key not in known)


def batches(grid: "CubeGrid", keys: Sequence[str], size: int) -> list[list[str]]:
    """Keys in batches of at most `size` neighbours, which share source tiles."""

    def block_order(key: str) -> tuple[int, int, int, int]:
        row, col = grid.parse(key)
        return row // _BLOCK, col // _BLOCK, row, col

    ordered = sorted(keys, key=block_order)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
