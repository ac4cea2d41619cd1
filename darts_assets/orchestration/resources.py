"""Resources: where things are and what is available, handed to assets. They open; the domain rooms do."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import obstore
from dagster import ResourceDependency

from darts_assets.bands import VISIBLE_NIR, AuxiliaryLayer, auxiliary_layers
from darts_assets.errors import CubeError, MissingChunksError, SceneError, SettingsError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place

if TYPE_CHECKING:
    import xarray as xr
    from odc.geo.geobox import GeoBox

    from darts_assets.cubes import ChunkData, Cube, FilledChunk
    from darts_assets.model import CheckpointHeader
    from darts_assets.orchestration.partitions import SceneFamily
    from darts_assets.scene import Scene
    from darts_assets.sources import S3Options


_CUBIC_REACH = 4
"""Pixels around a scene that cubic resampling may reach, with room for curved edges."""


class Store(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The root of everything that is written."""

    url: str
    endpoint: str | None = None
    region: str | None = None

    @property
    def root(self) -> StoreLocation:
        """The store's location."""
        return StoreLocation(self.url, self.endpoint, self.region)

    def place(self, *parts: str) -> Place:
        """The place of `parts` below the root."""
        return Place(self.root.child(*parts))


class SourceAccess(dg.ConfigurableResource):  # type: ignore[type-arg]
    """How the files of scenes on S3 are reached; keys come from the AWS environment variables."""

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False

    @property
    def options(self) -> "S3Options":
        """The same, for the sources."""
        from darts_assets.sources import S3Options

        return S3Options(endpoint=self.endpoint, region=self.region, anonymous=self.anonymous)


class SceneRegistry(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The items of registered scenes, kept so that a run can be repeated: `scenes/<family>/<scene>.json`."""

    store: ResourceDependency[Store]
    access: ResourceDependency[SourceAccess]

    def register(self, family: "SceneFamily", hrefs: Sequence[str]) -> "list[Scene]":
        """Read, parse and keep items; nothing is kept unless all can be understood.

        Raises:
            SceneError: naming each item that cannot be used.
            SourceUnavailableError: if a service does not answer.
        """
        from darts_assets.sources import read_item

        source = family.load_source()
        scenes, wrong = [], []
        for href in hrefs:
            try:
                scenes.append(source.parse(read_item(href, self.access.options)))
            except SceneError as error:
                wrong.append(str(error))
        if wrong:
            raise SceneError("; ".join(wrong))
        for scene in scenes:
            self._put(family, scene)
        return scenes

    def scene(self, family: "SceneFamily", scene_id: str) -> "Scene":
        """A registered scene.

        Raises:
            SceneError: if it was never registered.
        """
        try:
            raw = obstore.get(self._folder(family).objects(), f"{scene_id}.json").bytes()
        except FileNotFoundError:
            raise SceneError(
                f"scene {scene_id} has a partition but no item in {self._folder(family)}; register it by its STAC "
                "item: darts-assets register ITEM.json"
            ) from None
        return family.load_source().parse(json.loads(bytes(raw)))

    def _put(self, family: "SceneFamily", scene: "Scene") -> None:
        body = json.dumps(scene.item, indent=1).encode()
        obstore.put(self._folder(family).objects(), f"{scene.id}.json", body)

    def _folder(self, family: "SceneFamily") -> StoreLocation:
        return self.store.root.child("scenes", family.name)


class RawScenes(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Raw scenes: kept in `raw/<source>/<scene>.zarr`, or read from their source each time when switched off."""

    store: ResourceDependency[Store]
    access: ResourceDependency[SourceAccess]
    enabled: bool = True

    def place(self, scene: "Scene") -> Place:
        """Where the raw scene is kept."""
        return self.store.place("raw", scene.source, f"{scene.id}.zarr")

    def kept(self, scene: "Scene") -> dict[str, str]:
        """Bands that are kept, with their versions; none if they were fetched by another item of the same id."""
        manifest = self.place(scene).manifest()
        return manifest.contents if manifest and manifest.metadata["item"] == scene.item else {}

    def version(self, scene: "Scene") -> str:
        """The data version of what `optical` reads: of what is kept, or of the registered item.

        Raises:
            NotReadableError: if the scene is not in the store.
        """
        if not self.enabled:
            return scene.fingerprint
        return str(self.place(scene).require().metadata["provenance"]["data_version"])

    def fetch(
        self,
        family: "SceneFamily",
        scene: "Scene",
        bands: Sequence[str],
        metadata: Mapping[str, Any],
        log: Callable[[str], None],
    ) -> dict[str, Any]:
        """Fetch `bands` and publish them beside the ones that are kept already; returns facts about it."""
        from darts_assets.stores.tiles import write_tile

        place = self.place(scene)
        kept = {name: version for name, version in self.kept(scene).items() if name not in bands}
        started = time.perf_counter()
        stream = family.load_source().fetch(scene, bands, self.access.options)
        written = write_tile(
            place,
            stream,
            metadata={**metadata, "item": scene.item},
            keep=kept,
            encoded=True,
            progress=lambda done, total: log(f"{scene.id}: {done} of {total} rows fetched"),
        )
        return {
            "path": place.location.url,
            "bytes": written.size,
            "seconds": round(time.perf_counter() - started, 2),
            "coverage": written.coverage,
            "shape": str(tuple(stream.geobox.shape)),
        }

    def geobox(self, family: "SceneFamily", scene: "Scene") -> "GeoBox":
        """The scene's grid."""
        if self.enabled:
            from darts_assets.stores.tiles import read_geobox

            return read_geobox(self.place(scene))
        return family.load_source().grid(scene, self.access.options)

    def optical(self, family: "SceneFamily", scene: "Scene", quality: Mapping[int, int]) -> "xr.Dataset":
        """Reflectance (blue, green, red, nir) and quality mask of a scene, lazily.

        `quality` changes the source's table of classes and their quality.

        Raises:
            NotReadableError: if the scene is not in the store.
            SettingsError: if `quality` makes no sense.
        """
        source = family.load_source()
        names = [*VISIBLE_NIR, *(["s2_scl"] if scene.has_scl else [])]
        if not self.enabled:
            return source.calibrate(source.open_raw(scene, names, self.access.options), quality)
        from darts_assets.stores.tiles import read_tile

        return source.calibrate(read_tile(self.place(scene), names, decode=False), quality)


class Models(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The segmentation ensemble; what its checkpoints say of themselves is read without torch."""

    checkpoints: list[str] = []  # noqa: RUF012 - pydantic copies defaults

    @cached_property
    def headers(self) -> "list[CheckpointHeader]":
        """The checkpoints' headers.

        Raises:
            CheckpointError: if a checkpoint cannot be used.
        """
        from darts_assets.model import read_header

        named = [_named(text) for text in self.checkpoints] or [_shipped()]
        return [read_header(path, name) for name, path in named]

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that the ensemble needs."""
        from darts_assets.model import required_bands

        return required_bands(self.headers)

    @property
    def terrain(self) -> str:
        """The terrain convention that the ensemble was trained on."""
        from darts_assets.model import terrain_convention

        return terrain_convention(self.headers)


class AuxiliaryCubes(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The auxiliary datacubes and where their chunks come from: `aux/<cube>.icechunk`."""

    store: ResourceDependency[Store]
    layers: list[str] = []  # noqa: RUF012 - pydantic copies defaults
    arcticdem: str | None = None
    arcticdem_resolution: int | None = None
    tcvis: str | None = None
    offline: bool = False

    def layers_for(self, bands: Sequence[str]) -> tuple[AuxiliaryLayer, ...]:
        """The layers in use that `bands` are computed from."""
        return tuple(layer for layer in auxiliary_layers(bands) if layer in self.layers)

    def resolution(self, family: "SceneFamily") -> int:
        """Metres of the ArcticDEM cube that a family uses."""
        return self.arcticdem_resolution or family.arcticdem_resolution

    def arcticdem_cube(self, resolution: int) -> "Cube":
        """The ArcticDEM cube of a resolution."""
        from darts_assets.cubes import Cube, arcticdem_spec

        return Cube(self._location(f"arcticdem_{resolution}m"), arcticdem_spec(resolution))

    def tcvis_cube(self, vintage: int) -> "Cube":
        """The TCVIS cube of a vintage."""
        from darts_assets.cubes import Cube, tcvis_spec

        return Cube(self._location(f"tcvis_{vintage}"), tcvis_spec(vintage))

    def cube_of_chunk(self, layer: AuxiliaryLayer, key: str) -> "Cube":
        """The cube that a chunk's partition key names.

        Raises:
            CubeError: if the key is malformed.
        """
        grid = key.partition("-")[0].removesuffix("m" if layer == "arcticdem" else "")
        if not grid.isdecimal():
            example = "10m-r0123-c0456" if layer == "arcticdem" else "2024-r0123-c0456"
            raise CubeError(f"{key!r} is not a chunk of {layer}; expected a key such as {example}")
        cube = self.arcticdem_cube(int(grid)) if layer == "arcticdem" else self.tcvis_cube(int(grid))
        cube.spec.grid.parse(key)
        return cube

    def cube_for(self, layer: AuxiliaryLayer, family: "SceneFamily", scene: "Scene") -> "Cube":
        """The cube that serves a scene: by the family's resolution, or the vintage of the scene's year."""
        if layer == "arcticdem":
            return self.arcticdem_cube(self.resolution(family))
        from darts_assets.cubes import vintage_for

        return self.tcvis_cube(vintage_for(scene.datetime.year))

    def buffer(self, layer: AuxiliaryLayer, family: "SceneFamily", tpi_outer_radius: float) -> int:
        """Cube pixels around a scene that its features reach for."""
        if layer == "tcvis":
            return _CUBIC_REACH
        from darts_assets.features import PreprocessParameters, dem_buffer

        return dem_buffer(PreprocessParameters(tpi_outer_radius=tpi_outer_radius), self.resolution(family))

    def chunks_under(
        self, layer: AuxiliaryLayer, family: "SceneFamily", scene: "Scene", geobox: "GeoBox", tpi_outer_radius: float
    ) -> "tuple[Cube, list[str]]":
        """The cube that serves a scene, and the chunks of it that the scene needs: none beyond its coverage."""
        cube = self.cube_for(layer, family, scene)
        buffer = self.buffer(layer, family, tpi_outer_radius)
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
        """The layers that `bands` need around a scene, lazily; one that does not cover the scene is left out.

        Raises:
            MissingChunksError: if chunks under the scene are not filled.
        """
        windows: dict[AuxiliaryLayer, xr.Dataset] = {}
        for layer in self.layers_for(bands):
            cube, chunks = self.chunks_under(layer, family, scene, geobox, tpi_outer_radius)
            if not chunks:
                continue
            try:
                windows[layer] = cube.window(geobox, self.buffer(layer, family, tpi_outer_radius))
            except MissingChunksError as error:
                advice = f"Materialize auxiliary of this scene first, with tpi_outer_radius {tpi_outer_radius:g}."
                raise MissingChunksError(error.cube, error.chunks, advice) from None
        return windows

    def fill(self, layer: AuxiliaryLayer, cube: "Cube", keys: Sequence[str], run_id: str) -> "list[FilledChunk]":
        """Fill those of `keys` that are missing.

        Raises:
            MissingChunksError: offline, with the command that fetches them.
            SettingsError: if chunks are missing and the layer has no source.
        """
        from darts_assets.cubes import ensure

        missing = cube.missing(keys)
        if not missing:
            return []
        if self.offline:
            advice = (
                "Offline, nothing is fetched; with a network: "
                f"dagster asset materialize -m darts_assets --select 'key:\"aux/{layer}_chunk\"' --partition CHUNK"
            )
            raise MissingChunksError(cube.spec.name, missing, advice)
        return ensure(cube, missing, self._reader(layer, cube), message=f"created by run {run_id}")

    def _reader(self, layer: AuxiliaryLayer, cube: "Cube") -> "Callable[[GeoBox], ChunkData]":
        from darts_assets.cubes import ArcticDemTiles, TcvisRasters

        source = self.arcticdem if layer == "arcticdem" else self.tcvis
        if not source:
            raise SettingsError(
                f"{cube.spec.name} lacks chunks and no source for them is set: set DARTS_{layer.upper()}, or leave "
                "the layer out with DARTS_AUXILIARY (its features are then empty)"
            )
        if layer == "arcticdem":
            return ArcticDemTiles(source).read_chunk
        return partial(TcvisRasters(source).read_chunk, int(cube.spec.grid.prefix))

    def _location(self, cube: str) -> StoreLocation:
        return self.store.root.child("aux", f"{cube}.icechunk")


def _named(text: str) -> tuple[str | None, Path]:
    name, separator, path = text.partition("=")
    return (name, Path(path)) if separator else (None, Path(text))


def _shipped() -> tuple[str | None, Path]:
    from darts_assets.demo import DEMO_CHECKPOINT

    return "demo", DEMO_CHECKPOINT
