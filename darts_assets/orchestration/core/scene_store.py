"""Raw scenes in the store, or read from their source when the raw store is switched off."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg
import obstore
from dagster import ResourceDependency

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.errors import SceneError
from darts_assets.orchestration.core.error_handling import job_command
from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place

if TYPE_CHECKING:
    import xarray as xr
    from obstore.store import LocalStore, S3Store
    from odc.geo.geobox import GeoBox

    from darts_assets.orchestration.core.partitions import SceneFamily
    from darts_assets.scene import Scene


class RawScenes(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Raw scenes: kept in `raw/<source>/<scene>.zarr`, or read from their source each time when switched off."""

    store: ResourceDependency[Store]
    access: ResourceDependency[SourceAccess]
    enabled: bool = True
    offline: bool = False

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
        """Fetch `bands` and publish them beside the ones that are kept already; returns facts about it.

        Raises:
            SceneError: offline, with the command that fetches them; or from the scene's source.
            RasterError, SourceUnavailableError, SettingsError: from the scene's source.
        """
        from darts_assets.stores.tiles import write_tile

        self._check_reachable(family, scene, bands)
        place = self.place(scene)
        kept = {name: version for name, version in self.kept(scene).items() if name not in bands}
        stream = family.load_source().fetch(scene, bands, self.access.options_for(scene.source))
        verified = stream.attrs.get("checksums", {})
        if kept:
            before = place.require().metadata.get("checksums", {})
            verified = {name: checksum for name, checksum in before.items() if name in kept} | verified
        written = write_tile(
            place,
            stream,
            metadata={**metadata, "source": scene.source, "checksums": verified, "item": scene.item},
            keep=kept,
            encoded=True,
            progress=lambda done, total: log(f"{scene.id}: {done} of {total} rows fetched"),
        )
        return {
            "path": place.location.url,
            "bytes": written.size,
            "coverage": written.coverage,
            "shape": str(tuple(stream.geobox.shape)),
            **({"checksums": verified} if verified else {}),
        }

    def geobox(self, family: "SceneFamily", scene: "Scene") -> "GeoBox":
        """The scene's grid."""
        if self.enabled:
            from darts_assets.stores.tiles import read_geobox

            return read_geobox(self.place(scene))
        return self.grid_at_source(family, scene)

    def grid(self, family: "SceneFamily", scene: "Scene") -> "GeoBox":
        """The scene's grid: of what is kept, else of its files."""
        return self.geobox(family, scene) if self.enabled and self.kept(scene) else self.grid_at_source(family, scene)

    def grid_at_source(self, family: "SceneFamily", scene: "Scene") -> "GeoBox":
        """The grid of the scene's files, after they were checked.

        Raises:
            SceneError: offline, if they are elsewhere.
        """
        from darts_assets.remote.byte_reader import is_remote

        if any(is_remote(scene.bands[name].href) for name in VISIBLE_NIR):  # of Earth Engine, the item gives the grid
            self._check_reachable(family, scene, VISIBLE_NIR)
        return family.load_source().grid(scene, self.access.options_for(scene.source))

    def optical(self, family: "SceneFamily", scene: "Scene", quality: Mapping[int, int]) -> "xr.Dataset":
        """Reflectance (blue, green, red, nir) and quality mask of a scene, lazily.

        `quality` changes the source's table of classes and their quality.

        Raises:
            NotReadableError: if the scene is not in the store.
            SettingsError: if `quality` makes no sense.
        """
        source = family.load_source()
        names = [*VISIBLE_NIR, *quality_bands(scene)]
        if not self.enabled:
            self._check_reachable(family, scene, names)
            return source.calibrate(source.open_raw(scene, names, self.access.options_for(scene.source)), quality)
        from darts_assets.stores.tiles import read_tile

        return source.calibrate(read_tile(self.place(scene), names, decode=False), quality)

    def _check_reachable(self, family: "SceneFamily", scene: "Scene", bands: Sequence[str]) -> None:
        """Offline, only files on a disk can be read."""
        hrefs = {name: scene.bands[name].href for name in bands if name in scene.bands}
        missing = [name for name, href in hrefs.items() if urlsplit(href).scheme not in ("", "file")]
        if self.offline and missing:
            command = job_command(family.prepare_job, "choose_scenes", {"scene_ids": [scene.id]})
            raise SceneError(
                f"scene {scene.id}: {', '.join(missing)} are not in the store. Offline, nothing is fetched; with a "
                f"network, this fetches them: {command}"
            )


def quality_bands(scene: "Scene") -> list[str]:
    """The bands that say how good pixels are: a classification, or counts of observations."""
    return [name for name in scene.bands if name not in OPTICAL]


class SceneRegistry(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The items of registered scenes, kept so that a run can be repeated: `scenes/<family>/<scene>.json`."""

    store: ResourceDependency[Store]
    access: ResourceDependency[SourceAccess]

    def register(self, family: "SceneFamily", hrefs: Sequence[str]) -> "list[Scene]":
        """Read, parse and keep the items at some places; nothing is kept unless all can be understood.

        Raises:
            SceneError: naming each item that cannot be used.
            SourceUnavailableError: if a service does not answer.
        """
        source = family.load_source()
        scenes, wrong = [], []
        for href in hrefs:
            try:
                scenes += [source.parse(item) for item in source.read(href, self.access.options)]
            except SceneError as error:
                wrong.append(str(error))
        if wrong:
            raise SceneError("; ".join(wrong))
        for scene in scenes:
            self.keep(family, scene)
        return scenes

    def scene(self, family: "SceneFamily", scene_id: str) -> "Scene":
        """A registered scene.

        Raises:
            SceneError: if it was never registered.
        """
        try:
            raw = obstore.get(self._objects(family), f"{scene_id}.json").bytes()
        except FileNotFoundError:
            raise SceneError(
                f"scene {scene_id} has a partition but no item in {self._folder(family)}; register it by its STAC item "
                "(of Planet: by its folder): darts-assets register ITEM.json"
            ) from None
        return family.load_source().parse(json.loads(bytes(raw)))

    def family_of(self, scene_id: str) -> "SceneFamily":
        """The family that a registered scene belongs to; raises SceneError if it was never registered."""
        from darts_assets.orchestration.core.partitions import FAMILIES

        family = next((each for each in FAMILIES.values() if self.is_kept(each, scene_id)), None)
        if family is None:
            raise SceneError(f"scene {scene_id} is not registered: there is no item of it in {self.store.root}/scenes")
        return family

    def keep(self, family: "SceneFamily", scene: "Scene") -> None:
        """Keep a scene's item; one that is there is replaced."""
        body = json.dumps(scene.item, indent=1).encode()
        obstore.put(self._objects(family), f"{scene.id}.json", body)

    def is_kept(self, family: "SceneFamily", scene_id: str) -> bool:
        """Whether there is an item of a scene."""
        try:
            obstore.head(self._objects(family), f"{scene_id}.json")
        except FileNotFoundError:
            return False
        return True

    def _objects(self, family: "SceneFamily") -> "LocalStore | S3Store":
        return _opened(self._folder(family))

    def _folder(self, family: "SceneFamily") -> StoreLocation:
        return self.store.root.child("scenes", family.name)


@lru_cache(maxsize=8)
def _opened(folder: StoreLocation) -> "LocalStore | S3Store":
    # One client for thousands of small items, and with it its connections.
    return folder.objects()
