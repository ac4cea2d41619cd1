"""The auxiliary cubes of a store, and the sources that their missing chunks are read from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from odc.geo.geobox import GeoBox

from darts_assets.bands import AuxiliaryLayer
from darts_assets.cubes.arcticdem import RESOLUTIONS, ArcticDemTiles, arcticdem_spec
from darts_assets.cubes.cube import Cube
from darts_assets.cubes.fill import FilledChunk, Progress, ensure
from darts_assets.cubes.tcvis import VINTAGES, TcvisRasters, tcvis_spec
from darts_assets.cubes.tcvis_earth_engine import EarthEngineTcvis
from darts_assets.cubes.variables import ChunkData
from darts_assets.earth_engine import EarthEngineOptions
from darts_assets.errors import CubeError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.store_layout import CUBE_SUFFIX, cube_location, cubes_folder


@dataclass(frozen=True)
class CubeStore:
    """The cubes below a store's root. Construction reads nothing.

    Attributes:
        root: root of the store.
        arcticdem: STAC API, catalog, items or index of ArcticDEM's mosaic tiles.
        tcvis: path or URL with `{vintage}` of rasters of the trends; None for Earth Engine.
        earth_engine: options of the Earth Engine client.
    """

    root: StoreLocation
    arcticdem: str
    tcvis: str | None = None
    earth_engine: EarthEngineOptions = field(default_factory=EarthEngineOptions)

    def arcticdem_cube(self, resolution: int) -> Cube:
        """The ArcticDEM cube of a resolution, in metres; CubeError if the resolution does not exist."""
        return Cube(cube_location(self.root, f"arcticdem_{resolution}m"), arcticdem_spec(resolution))

    def tcvis_cube(self, vintage: int) -> Cube:
        """The TCVIS cube of a vintage; CubeError if the vintage does not exist."""
        return Cube(cube_location(self.root, f"tcvis_{vintage}"), tcvis_spec(vintage))

    def named(self, name: str) -> Cube:
        """A cube by its name, such as `arcticdem_10m` or `tcvis_2024`; CubeError if the name is invalid."""
        if name not in self._by_name:
            raise CubeError(f"unknown cube {name!r}; expected one of {', '.join(self._by_name)}")
        return self._by_name[name]()

    def of_chunk(self, layer: AuxiliaryLayer, key: str) -> Cube:
        """The cube of a chunk, from its partition key; CubeError if the key is malformed."""
        name = f"{layer}_{key.partition('-')[0]}"
        if name not in self._by_name:
            example = "10m-r0123-c0456" if layer == "arcticdem" else "2024-r0123-c0456"
            raise CubeError(f"{key[:80]!r} is not a chunk of {layer}; expected a key such as {example}")
        cube = self.named(name)
        cube.spec.grid.parse(key)
        return cube

    def existing(self) -> list[Cube]:
        """The cubes in the store."""
        present = cubes_folder(self.root).folders()
        return [open_cube() for name, open_cube in self._by_name.items() if name + CUBE_SUFFIX in present]

    def fill(
        self,
        layer: AuxiliaryLayer,
        cube: Cube,
        keys: Sequence[str],
        message: str,
        *,
        offline: bool = False,
        progress: Progress | None = None,
    ) -> list[FilledChunk]:
        """Fill the missing ones of `keys` from the layer's source.

        Args:
            layer: the cube's layer.
            cube: the cube.
            keys: partition keys of chunks.
            message: for the cube's history, such as the id of the run.
            offline: do not access the source.
            progress: called with the number of chunks done and of all that are missing.

        Returns:
            The chunks that this call filled.

        Raises:
            MissingChunksError: offline, with all missing chunks.
            ChunksFailedError: if chunks cannot be read; the others are filled.
            SettingsError: if the layer's source has no credentials.
        """
        missing = cube.missing(keys)
        if not missing:
            return []
        # Neighbouring chunks share blocks of their source files; Earth Engine computes each chunk separately.
        block = 1 if layer == "tcvis" and not self.tcvis else 4
        read = _refused if offline else self._reader(layer, cube)
        return ensure(cube, missing, read, message=message, offline=offline, block=block, progress=progress)

    @cached_property
    def _by_name(self) -> Mapping[str, Callable[[], Cube]]:
        return {f"arcticdem_{resolution}m": partial(self.arcticdem_cube, resolution) for resolution in RESOLUTIONS} | {
            f"tcvis_{vintage}": partial(self.tcvis_cube, vintage) for vintage in VINTAGES
        }

    def _reader(self, layer: AuxiliaryLayer, cube: Cube) -> Callable[[GeoBox], ChunkData]:
        if layer == "arcticdem":
            return self._arcticdem_tiles.read_chunk
        return partial(self._trends.read_chunk, int(cube.spec.grid.prefix))

    # Cached, because they cache the index of their source.

    @cached_property
    def _arcticdem_tiles(self) -> ArcticDemTiles:
        return ArcticDemTiles(self.arcticdem)

    @cached_property
    def _trends(self) -> TcvisRasters | EarthEngineTcvis:
        return TcvisRasters(self.tcvis) if self.tcvis else EarthEngineTcvis(self.earth_engine)


def _refused(geobox: GeoBox) -> ChunkData:
    raise AssertionError("offline, no chunk is read")
