"""Scenes in the store: STAC items of registered scenes, and raw scenes."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg
import obstore
from dagster import ResourceDependency

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.errors import SceneError, StoreError
from darts_assets.orchestration.core.error_handling import job_command
from darts_assets.orchestration.core.partitions import FAMILIES, SceneFamily
from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.stores.location import StoreLocation, checked_name
from darts_assets.stores.publish import Manifest, Place

if TYPE_CHECKING:
    import xarray as xr
    from obstore.store import LocalStore, S3Store
    from odc.geo.geobox import GeoBox

    from darts_assets.scene import Scene
    from darts_assets.sources.sentinel2.offset_evidence import OffsetChoice


_SHOWN = 80  # characters of a malformed partition key in messages


class RawScenes(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Raw scenes in `raw/<source>/<scene>`; if disabled, they are read from their source each time."""

    store: ResourceDependency[Store]
    access: ResourceDependency[SourceAccess]
    enabled: bool = True
    offline: bool = False

    def place(self, scene: "Scene") -> Place:
        """The place of a raw scene."""
        return self.store.place("raw", scene.source, scene.id)

    def published(self, scene: "Scene") -> Manifest | None:
        """The stored scene; None if there is none, or if it was fetched with another item of the same id."""
        manifest = self.place(scene).manifest()
        # As text: services write NaN for unknown values, which is unequal to itself.
        is_same = manifest is not None and json.dumps(manifest.metadata["item"]) == json.dumps(scene.item)
        return manifest if is_same else None

    def kept(self, scene: "Scene") -> dict[str, str]:
        """Stored bands and their versions."""
        manifest = self.published(scene)
        return manifest.contents if manifest else {}

    def fetch(
        self,
        family: SceneFamily,
        scene: "Scene",
        bands: Sequence[str],
        metadata: Mapping[str, Any],
        log: Callable[[str], None],
    ) -> dict[str, Any]:
        """Fetch `bands` and publish them together with the stored ones; returns metadata.

        Raises:
            SceneError: offline, with the command that fetches the bands; or from the scene's source.
            RasterError, SourceUnavailableError, SettingsError: from the scene's source.
        """
        from darts_assets.stores.tiles import write_tile

        self._check_reachable(family, scene, bands)
        place = self.place(scene)
        published = self.published(scene)
        kept = {name: version for name, version in (published or Manifest({})).contents.items() if name not in bands}
        stream = family.load_source().fetch(scene, bands, self.access.options_for(scene.source))
        verified = stream.attrs.get("checksums", {})
        if published:
            before = published.metadata.get("checksums", {})
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
            "path": written.url,
            "bytes": written.size,
            "coverage": written.coverage,
            "shape": str(tuple(stream.geobox.shape)),
            **({"checksums": verified} if verified else {}),
        }

    def geobox(self, family: SceneFamily, scene: "Scene") -> "GeoBox":
        """The scene's grid."""
        if self.enabled:
            from darts_assets.stores.tiles import read_geobox

            return read_geobox(self.place(scene))
        return self.grid_at_source(family, scene)

    def grid(self, family: SceneFamily, scene: "Scene") -> "GeoBox":
        """The scene's grid: of the stored bands, else of its files."""
        return (
            self.geobox(family, scene) if self.enabled and self.published(scene) else self.grid_at_source(family, scene)
        )

    def grid_at_source(self, family: SceneFamily, scene: "Scene") -> "GeoBox":
        """The grid of the scene's files, which are checked.

        Raises:
            SceneError: offline, if the files are remote.
        """
        from darts_assets.remote.byte_reader import is_remote

        if any(is_remote(scene.bands[name].href) for name in VISIBLE_NIR):  # Earth Engine: the item has the grid
            self._check_reachable(family, scene, VISIBLE_NIR)
        return family.load_source().grid(scene, self.access.options_for(scene.source))

    def optical(
        self, family: SceneFamily, scene: "Scene", quality: Mapping[int, int], offset: "OffsetChoice" = "auto"
    ) -> "tuple[xr.Dataset, str]":
        """Reflectance (blue, green, red, nir) and quality mask of a scene, lazily, and their data version.

        The data version is that of the stored scene, or of the registered item if scenes are not stored.

        Args:
            family: family of the scene.
            scene: the scene.
            quality: class -> quality; overrides entries of the source's table.
            offset: of the digital numbers; see `with_offsets`.

        Raises:
            NotReadableError: if the scene is not in the store.
            SceneError: if the offset is `auto` and the item does not decide it.
            SettingsError: if `quality` has an unknown class or an invalid quality.
        """
        from darts_assets.sources.sentinel2.calibrate import with_offsets
        from darts_assets.stores.tiles import read_tile

        source = family.load_source()
        names = [*VISIBLE_NIR, *quality_bands(scene)]
        if self.enabled:
            place = self.place(scene)
            manifest = place.require()
            raw = read_tile(place, names, decode=False, manifest=manifest)
            version = str(manifest.metadata["provenance"]["data_version"])
        else:
            self._check_reachable(family, scene, names)
            raw = source.open_raw(scene, names, self.access.options_for(scene.source))
            version = scene.fingerprint
        return source.calibrate(with_offsets(raw, scene, offset), quality), version

    def _check_reachable(self, family: SceneFamily, scene: "Scene", bands: Sequence[str]) -> None:
        """Raises SceneError if bands are remote and the run is offline."""
        hrefs = {name: scene.bands[name].href for name in bands if name in scene.bands}
        missing = [name for name, href in hrefs.items() if urlsplit(href).scheme not in ("", "file")]
        if self.offline and missing:
            command = job_command(family.prepare_job, "choose_scenes", {"scene_ids": [scene.id]})
            raise SceneError(
                f"scene {scene.id}: band(s) {', '.join(missing)} are not in the store and cannot be fetched "
                f"offline; with a network, this fetches them: {command}"
            )


def quality_bands(scene: "Scene") -> list[str]:
    """The bands with the quality of pixels: a classification, or counts of observations."""
    return [name for name in scene.bands if name not in OPTICAL]


class SceneRegistry(dg.ConfigurableResource):  # type: ignore[type-arg]
    """STAC items of registered scenes, stored so that runs can be repeated: `scenes/<family>/<scene>.json`."""

    store: ResourceDependency[Store]
    access: ResourceDependency[SourceAccess]

    def register(self, family: SceneFamily, hrefs: Sequence[str]) -> "list[Scene]":
        """Read, parse and store items, given by path or URL; none is stored unless all are valid; raises as `read`."""
        scenes = self.read(family, hrefs)
        for scene in scenes:
            self.keep(family, scene)
        return scenes

    def read(self, family: SceneFamily, hrefs: Sequence[str]) -> "list[Scene]":
        """Read and parse items, given by path or URL.

        Raises:
            SceneError: with every invalid item.
            SourceUnavailableError: if a service does not answer.
        """
        source = family.load_source()
        scenes, problems = [], []
        for href in hrefs:
            try:
                scenes += [source.parse(item) for item in source.read(href, self.access.options)]
            except SceneError as error:
                problems.append(str(error))
        if problems:
            raise SceneError("; ".join(problems))
        return scenes

    def scene(self, family: SceneFamily, scene_id: str) -> "Scene":
        """A registered scene.

        Raises:
            SceneError: if the scene is not registered, or its partition has a key that is not the id of a scene.
        """
        try:
            checked_name(f"{scene_id}.json")
        except StoreError as error:
            raise SceneError(
                f"partition {scene_id[:_SHOWN]!r} ({len(scene_id)} characters) is not a scene: {error}; delete the "
                "partition and register scenes by `darts-assets register` or `discover_scenes`"
            ) from None
        try:
            content = obstore.get(self._objects(family), f"{scene_id}.json").bytes()
        except FileNotFoundError:
            raise SceneError(
                f"scene {scene_id} has a partition but no STAC item in {self._folder(family)}; register the item "
                "(Planet: the folder): darts-assets register ITEM.json"
            ) from None
        return family.load_source().parse(json.loads(bytes(content)))

    def family_of(self, scene_id: str) -> SceneFamily:
        """The family of a registered scene; raises SceneError if the scene is not registered."""
        family = next((each for each in FAMILIES.values() if self.is_kept(each, scene_id)), None)
        if family is None:
            raise SceneError(f"scene {scene_id} is not registered: {self.store.root}/scenes has no item")
        return family

    def keep(self, family: SceneFamily, scene: "Scene") -> None:
        """Store a scene's item, replacing an existing one."""
        body = json.dumps(scene.item, indent=1).encode()
        obstore.put(self._objects(family), f"{scene.id}.json", body)

    def is_kept(self, family: SceneFamily, scene_id: str) -> bool:
        """Whether a scene's item is stored."""
        try:
            obstore.head(self._objects(family), f"{scene_id}.json")
        except FileNotFoundError:
            return False
        return True

    def _objects(self, family: SceneFamily) -> "LocalStore | S3Store":
        return _opened(self._folder(family))

    def _folder(self, family: SceneFamily) -> StoreLocation:
        return self.store.root.child("scenes", family.name)


@lru_cache(maxsize=8)
def _opened(folder: StoreLocation) -> "LocalStore | S3Store":
    # One client, with its connections, for thousands of small items.
    return folder.objects()
