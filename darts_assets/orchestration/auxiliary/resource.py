"""Resource of the auxiliary cubes: the cubes and chunks that scenes need, and the sources of chunks."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster import ResourceDependency

from darts_assets.bands import AuxiliaryLayer, auxiliary_layers
from darts_assets.errors import MissingChunksError
from darts_assets.orchestration.core.error_handling import job_command
from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.redaction import revealed

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

    from darts_assets.cubes import Cube, FilledChunk
    from darts_assets.cubes.cube_store import CubeStore
    from darts_assets.orchestration.core.partitions import SceneFamily
    from darts_assets.scene import Scene

_CUBIC_REACH = 4
"""Pixels that cubic resampling reads around a scene, with a margin for curved edges."""

_SHOWN = 10  # chunks in a command shown to users


def prepare_command(config: Mapping[str, Any]) -> str:
    """The command that fills chunks, for messages; `config` is the config of the job's first op."""
    return job_command("prepare_auxiliary", "choose_chunks", config)


class AuxiliaryCubes(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The auxiliary cubes, stored as `aux/<cube>.icechunk`, and the sources of their chunks."""

    store: ResourceDependency[Store]
    access: ResourceDependency[SourceAccess]
    layers: list[str] = []  # noqa: RUF012 - pydantic copies defaults
    arcticdem: str
    arcticdem_resolution: int | None = None
    tcvis: str | None = None
    offline: bool = False

    def layers_for(self, bands: Sequence[str]) -> tuple[AuxiliaryLayer, ...]:
        """The configured layers that `bands` are computed from."""
        return tuple(layer for layer in auxiliary_layers(bands) if layer in self.layers)

    def resolution(self, family: "SceneFamily") -> int:
        """Resolution of a family's ArcticDEM cube, in metres."""
        return self.arcticdem_resolution or family.arcticdem_resolution

    def arcticdem_cube(self, resolution: int) -> "Cube":
        """The ArcticDEM cube of a resolution, in metres; CubeError if the resolution does not exist."""
        return self._cubes.arcticdem_cube(resolution)

    def tcvis_cube(self, vintage: int) -> "Cube":
        """The TCVIS cube of a vintage; CubeError if the vintage does not exist."""
        return self._cubes.tcvis_cube(vintage)

    def cube_named(self, name: str) -> "Cube":
        """A cube by its name, such as `arcticdem_10m` or `tcvis_2024`; CubeError if the name is invalid."""
        return self._cubes.named(name)

    def cube_of_chunk(self, layer: AuxiliaryLayer, key: str) -> "Cube":
        """The cube of a chunk, from its partition key; CubeError if the key is malformed."""
        return self._cubes.of_chunk(layer, key)

    def existing(self) -> "list[Cube]":
        """The cubes in the store."""
        return self._cubes.existing()

    def cube_for(self, layer: AuxiliaryLayer, family: "SceneFamily", scene: "Scene") -> "Cube":
        """The cube of a scene: ArcticDEM by the family's resolution, TCVIS by the vintage for the scene's year."""
        if layer == "arcticdem":
            return self.arcticdem_cube(self.resolution(family))
        from darts_assets.cubes import vintage_for

        return self.tcvis_cube(vintage_for(scene.datetime.year))

    def buffer(self, layer: AuxiliaryLayer, resolution: int, tpi_outer_radius: float) -> int:
        """Margin around a scene, in cube pixels, that its features need.

        Args:
            layer: the layer.
            resolution: resolution of ArcticDEM, in metres.
            tpi_outer_radius: metres.

        Raises:
            SettingsError: if the radius is invalid.
        """
        if layer == "tcvis":
            return _CUBIC_REACH
        from darts_assets.features import AuxiliaryParameters, dem_buffer

        return dem_buffer(AuxiliaryParameters(tpi_outer_radius=tpi_outer_radius), resolution)

    def chunks_under(
        self, layer: AuxiliaryLayer, family: "SceneFamily", scene: "Scene", geobox: "GeoBox", tpi_outer_radius: float
    ) -> "tuple[Cube, list[str]]":
        """The cube of a scene and the keys of the chunks that the scene needs; none if the cube does not cover it."""
        cube = self.cube_for(layer, family, scene)
        buffer = self.buffer(layer, self.resolution(family), tpi_outer_radius)
        grid = cube.spec.grid
        return cube, grid.chunks_for(geobox, buffer) if grid.overlaps(geobox, buffer) else []

    def windows(
        self,
        family: "SceneFamily",
        scene: "Scene",
        geobox: "GeoBox",
        bands: Sequence[str],
        tpi_outer_radius: float,
    ) -> "dict[AuxiliaryLayer, xr.Dataset]":
        """Lazy datasets of the layers that `bands` need around a scene, without layers that do not cover the scene.

        Raises:
            MissingChunksError: if chunks under the scene are not filled.
        """
        windows: dict[AuxiliaryLayer, xr.Dataset] = {}
        for layer in self.layers_for(bands):
            cube, chunks = self.chunks_under(layer, family, scene, geobox, tpi_outer_radius)
            if not chunks:
                continue
            try:
                windows[layer] = cube.window(geobox, self.buffer(layer, self.resolution(family), tpi_outer_radius))
            except MissingChunksError as error:
                advice = f"Materialize `auxiliary` of this scene first, with tpi_outer_radius {tpi_outer_radius:g}."
                raise MissingChunksError(error.cube, error.chunks, advice) from None
        return windows

    def fill(
        self,
        layer: AuxiliaryLayer,
        cube: "Cube",
        keys: Sequence[str],
        run_id: str,
        choice: Mapping[str, Any] | None = None,
    ) -> "list[FilledChunk]":
        """Fill the missing chunks.

        Args:
            layer: the cube's layer.
            cube: the cube.
            keys: partition keys of chunks.
            run_id: id for the cube's history.
            choice: config of `prepare_auxiliary` that selects these chunks, for the error message; default: their keys.

        Returns:
            The chunks that this call filled.

        Raises:
            MissingChunksError: if offline; with the command that fetches the missing chunks.
            ChunksFailedError: if chunks cannot be read; the others are filled.
            SettingsError: if the layer's source has no credentials.
        """
        missing = cube.missing(keys)
        if not missing:
            return []
        if self.offline:
            command = prepare_command(choice or {"chunks": missing[:_SHOWN]})
            advice = f"Nothing is fetched (DARTS_OFFLINE); with a network, this fetches them: {command}"
            raise MissingChunksError(cube.spec.name, missing, advice)
        return self._cubes.fill(layer, cube, missing, f"created by run {run_id}")

    @cached_property
    def _cubes(self) -> "CubeStore":
        # Cached for the run, because it caches the index of its sources.
        from darts_assets.cubes.cube_store import CubeStore

        tcvis = revealed(self.tcvis) if self.tcvis else None
        return CubeStore(self.store.root, revealed(self.arcticdem), tcvis, self.access.earth_engine)
