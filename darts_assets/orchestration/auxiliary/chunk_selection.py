"""Which chunks somebody wants: under an area, under scenes, or by their keys."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.errors import SettingsError
from darts_assets.geo.aoi import read_aoi
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import Models
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry

if TYPE_CHECKING:
    from darts_assets.cubes import Cube, CubeGrid

logger = logging.getLogger(__name__)

_BLOCK = 8  # chunks; a square of these is what one step fills


class ChunkChoice(dg.Config):
    """Which chunks: by exactly one of `aoi`, `scenes` and `chunks`."""

    aoi: str = Field(
        default="",
        description="Vector file (path or URL) in any format and CRS: all chunks under its features, with what scenes "
        "in them reach for.",
    )
    scenes: list[str] = Field(
        default=[],
        description="Ids of registered scenes, of any family: exactly the chunks that their `auxiliary` needs.",
    )
    chunks: list[str] = Field(
        default=[],
        description="Keys such as 10m-r0123-c0456, or blocks by two corners: 10m-r0120-c0450...10m-r0123-c0456.",
    )
    layers: list[str] = Field(
        default=[],
        description="For an area or scenes: arcticdem, tcvis. Default: those in use that the models need.",
    )
    arcticdem_resolution: int | None = Field(
        default=None, description="For an area: metres, 2, 10 or 32. Default: what Sentinel-2 scenes use."
    )
    years: list[int] = Field(
        default=[],
        description="For an area: years of the scenes to come; they decide about the vintages of the trends.",
    )
    vintages: list[int] = Field(
        default=[],
        description="For an area: the vintages themselves, 2019, 2020, 2022, 2024. Default: the newest.",
    )
    tpi_outer_radius: float = Field(
        default=100.0, description="For an area or scenes: metres, the radius that `preprocessed_tile` will use."
    )

    def check(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            SettingsError: naming the fields.
        """
        ways = [name for name in ("aoi", "scenes", "chunks") if getattr(self, name)]
        if len(ways) != 1:
            given = f"given are {' and '.join(ways)}" if ways else "none is given"
            raise SettingsError(f"chunks are chosen by exactly one of aoi, scenes and chunks; {given}")
        only_area = ("arcticdem_resolution", "years", "vintages")
        senseless = {"aoi": (), "scenes": only_area, "chunks": ("layers", *only_area)}[ways[0]]
        for name in senseless:
            if getattr(self, name):
                raise SettingsError(f"{name} says nothing where chunks are chosen by {ways[0]}: leave it out")
        if self.years and self.vintages:
            raise SettingsError("years and vintages both choose the vintages of the trends: give one of them")
        unknown = set(self.layers) - set(AUXILIARY_LAYERS)
        if unknown:
            raise SettingsError(f"layers: {', '.join(sorted(unknown))}; expected {', '.join(AUXILIARY_LAYERS)}")


@dataclass(frozen=True)
class ChosenChunks:
    """Chunks of one cube.

    Attributes:
        layer: of the cube.
        cube: the cube.
        keys: partition keys, each once.
    """

    layer: AuxiliaryLayer
    cube: "Cube"
    keys: list[str]


def choose(
    choice: ChunkChoice, *, cubes: AuxiliaryCubes, models: Models, scenes: SceneRegistry, raw: RawScenes
) -> list[ChosenChunks]:
    """The chunks of a choice, cube by cube.

    Raises:
        SettingsError: if the choice contradicts itself, its area cannot be read, or nothing is left of it.
        SceneError: if a scene is not registered.
        CubeError: if a key is malformed, or there is no such cube.
        SourceUnavailableError: if a service does not answer.
    """
    choice.check()
    if choice.chunks:
        return _by_keys(choice.chunks, cubes)
    wanted = choice.layers or cubes.layers_for(models.bands)
    layers = [layer for layer in AUXILIARY_LAYERS if layer in wanted]
    if not layers:
        raise SettingsError("the models need no auxiliary layer that is in use (DARTS_AUXILIARY): name them in layers")
    if choice.scenes:
        where, chosen = "the scenes", _under_scenes(choice, layers, cubes, scenes, raw)
    else:
        where, chosen = choice.aoi, _under_area(choice, layers, cubes, scenes)
    outside = [chunks.cube.spec.name for chunks in chosen if not chunks.keys]
    if len(outside) == len(chosen):
        raise SettingsError(f"no cube covers {where}: {', '.join(outside)}")
    for name in outside:
        logger.warning("%s does not cover %s", name, where)
    return [chunks for chunks in chosen if chunks.keys]


def _under_area(
    choice: ChunkChoice, layers: Sequence[AuxiliaryLayer], cubes: AuxiliaryCubes, scenes: SceneRegistry
) -> list[ChosenChunks]:
    from darts_assets.cubes import vintage_for
    from darts_assets.cubes.tcvis import VINTAGES

    area = read_aoi(choice.aoi, scenes.access.options)
    logger.info("%s: %d features, %s", choice.aoi, area.features, area.crs.name)
    resolution = choice.arcticdem_resolution or cubes.resolution(SENTINEL2)
    vintages = choice.vintages or [vintage_for(year) for year in choice.years] or VINTAGES[-1:]
    serving = {
        "arcticdem": lambda: [cubes.arcticdem_cube(resolution)],
        "tcvis": lambda: [cubes.tcvis_cube(vintage) for vintage in sorted(set(vintages))],
    }
    return [
        ChosenChunks(layer, cube, cube.spec.grid.chunks_under(area.geometry, area.crs, buffer))
        for layer in layers
        for buffer in [cubes.buffer(layer, resolution, choice.tpi_outer_radius)]
        for cube in serving[layer]()
    ]


def _under_scenes(
    choice: ChunkChoice,
    layers: Sequence[AuxiliaryLayer],
    cubes: AuxiliaryCubes,
    scenes: SceneRegistry,
    raw: RawScenes,
) -> list[ChosenChunks]:
    found: dict[str, ChosenChunks] = {}
    for scene_id in choice.scenes:
        family = scenes.family_of(scene_id)
        scene = scenes.scene(family, scene_id)
        geobox = raw.grid(family, scene)
        for layer in layers:
            cube, keys = cubes.chunks_under(layer, family, scene, geobox, choice.tpi_outer_radius)
            _add(found, layer, cube, keys)
    return list(found.values())


def _by_keys(texts: Sequence[str], cubes: AuxiliaryCubes) -> list[ChosenChunks]:
    found: dict[str, ChosenChunks] = {}
    for text in texts:
        first, _, last = text.partition("...")
        layer: AuxiliaryLayer = "arcticdem" if first.partition("-")[0].endswith("m") else "tcvis"
        cube = cubes.cube_of_chunk(layer, first)
        grid = cube.spec.grid
        (top, bottom), (left, right) = map(sorted, zip(grid.parse(first), grid.parse(last or first), strict=True))
        _add(found, layer, cube, [grid.key(r, c) for r in range(top, bottom + 1) for c in range(left, right + 1)])
    return list(found.values())


def _add(found: dict[str, ChosenChunks], layer: AuxiliaryLayer, cube: "Cube", keys: Sequence[str]) -> None:
    chosen = found.setdefault(cube.spec.name, ChosenChunks(layer, cube, []))
    known = set(chosen.keys)
    chosen.keys.extend(key for key in keys if key not in known)


def dynamic_outputs(work: "Sequence[tuple[ChosenChunks, list[str]]]") -> Iterator[dg.DynamicOutput[dict[str, Any]]]:
    """Batches of chunks as the outputs of a step, each for the step that fills chunks of its layer."""
    for number, (chosen, keys) in enumerate(work, 1):
        name = chosen.cube.spec.name
        batch = {"cube": name, "keys": keys, "number": number, "of": len(work)}
        yield dg.DynamicOutput(batch, mapping_key=f"{name}_{number:04d}", output_name=chosen.layer)


def batches(grid: "CubeGrid", keys: Sequence[str], size: int) -> list[list[str]]:
    """Keys in groups of at most `size` neighbours, which share tiles of their source."""

    def place(key: str) -> tuple[int, int, int, int]:
        row, col = grid.parse(key)
        return row // _BLOCK, col // _BLOCK, row, col

    ordered = sorted(keys, key=place)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]
