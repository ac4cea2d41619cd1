"""Partitions and materializations of what a store has, from its items and pointers; no data are read.

For a store that was made elsewhere, or whose Dagster database was lost. Materializations have the data versions, code
versions and provenance of the original ones, so that Dagster shows the same partitions as stale: those that were made
from another version of an input than the current one, or by other code. Costs and pictures are not in the pointers.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.errors import DartsError
from darts_assets.orchestration.auxiliary.chunk_materializations import register_chunks, unrecorded
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.dagster_compat import (
    DATA_VERSION_TAG,
    data_version_tags,
    data_versions,
    input_tags,
    latest_materialization,
    record_without_run,
)
from darts_assets.orchestration.core.dynamic_partitions import register, registered
from darts_assets.orchestration.core.metadata import as_metadata, provenance
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, FAMILIES, STEPS, SceneFamily
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS
from darts_assets.orchestration.inventory.chips_asset import CHIPS
from darts_assets.orchestration.scene_chain.auxiliary import CODE_VERSION as AUXILIARY_CODE
from darts_assets.orchestration.scene_chain.auxiliary import AuxiliaryConfig
from darts_assets.orchestration.scene_chain.products import LINKED
from darts_assets.orchestration.scene_discovery.registration import registration_order
from darts_assets.scene import Scene
from darts_assets.stores.latest import LATEST
from darts_assets.stores.publish import Manifest, Place
from darts_assets.stores.published_results import documents, published_results
from darts_assets.stores.store_layout import (
    chips_place,
    items_folder,
    raw_folder,
    slumps_place,
    step_folder,
    years_folder,
)

if TYPE_CHECKING:
    from darts_assets.cubes import Cube

_READERS = 16
_BATCH = 1000
_ANOTHER_VERSION = 1
"""Number of an event before all others: an input that had another version then is shown as changed."""

Log = Callable[[str], None]


@dataclass
class Synced:
    """What a sync has added to the instance.

    Attributes:
        registered: partitions definition -> number of new partitions.
        recorded: asset -> number of new materializations.
        problems: scene, chunk cube or place that was left out -> reason.
    """

    registered: Counter[str] = field(default_factory=Counter)
    recorded: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Result:
    """A published partition: its provenance, the metadata of its materialization, and when it was published."""

    facts: dict[str, Any]
    metadata: Mapping[str, Any]
    published: str

    @property
    def version(self) -> str:
        return str(self.facts["data_version"])

    @property
    def inputs(self) -> dict[str, str]:
        return dict(self.facts.get("inputs", {}))


_Results = dict[str, dict[str, _Result]]  # step -> partition -> result


def sync_store(instance: dg.DagsterInstance, defs: dg.Definitions, log: Log = lambda text: None) -> Synced:
    """Register and record what the store has and the instance lacks; a second call adds nothing.

    Scenes, chunks, the steps of the chains and the inventory are recorded. Left out are the catalog, training sets and
    models, and `auxiliary` of scenes without a preprocessed tile: materialize them again.

    Args:
        instance: the Dagster instance; what it has beyond the store is left as it is.
        defs: the code location, with the resources of the store.
        log: called with progress messages.

    Raises:
        StoreError: if the store does not respond.
    """
    resources = defs.resources or {}
    scenes, cubes = resources["scenes"], resources["cubes"]
    sync = _Sync(instance, _parents(defs))
    sync.chunks(cubes)
    for family in FAMILIES.values():
        log(f"{family.name}: reading items and pointers")
        sync.scenes(family, scenes, cubes)
    sync.inventory(scenes)
    return sync.done


def _parents(defs: dg.Definitions) -> dict[dg.AssetKey, set[dg.AssetKey]]:
    assets = (asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition))
    return {key: set(parents) for asset in assets for key, parents in asset.asset_deps.items()}


class _Sync:
    def __init__(self, instance: dg.DagsterInstance, parents: Mapping[dg.AssetKey, set[dg.AssetKey]]) -> None:
        self.done = Synced()
        self._instance, self._parents = instance, parents
        self._published: dict[dg.AssetKey, str] = {}  # asset -> time of its latest published partition

    def chunks(self, cubes: AuxiliaryCubes) -> None:
        """Register and record the filled chunks of all cubes."""
        for cube in cubes.existing():
            layer = next(layer for layer in AUXILIARY_LAYERS if cube.spec.name.startswith(f"{layer}_"))
            try:
                coverage, snapshot = cube.coverage(), cube.snapshot()
            except DartsError as error:
                self.done.problems[cube.spec.name] = str(error)
                continue
            grid = cube.spec.grid
            keys = [grid.key(int(row), int(col)) for part in (coverage.data, coverage.empty) for row, col in part]
            self._chunks_of(layer, cube.spec.name, snapshot, sorted(keys))

    def _chunks_of(self, layer: AuxiliaryLayer, cube: str, snapshot: str, keys: list[str]) -> None:
        new = unrecorded(self._instance, layer, keys)
        register_chunks(self._instance, layer, new)
        metadata = as_metadata({"cube": cube, "already_filled": True, "snapshot": snapshot})
        self._write([dg.AssetMaterialization(CHUNK_KEYS[layer], partition=key, metadata=metadata) for key in new])

    def scenes(self, family: SceneFamily, registry: SceneRegistry, cubes: AuxiliaryCubes) -> None:
        """Register the scenes of a family, and record the steps of their chains."""
        root = registry.store.root
        ids = documents(items_folder(root, family.name))
        known = registered(self._instance, family.partitions, ids)
        parsed = self._parsed(family, registry, ids)
        new = [scene.id for scene in sorted(parsed.values(), key=registration_order) if scene.id not in known]
        register(self._instance, family.partitions, new)
        if new:
            self.done.registered[str(family.partitions.name)] = len(new)
        manifests = {step: self._manifests(family, registry, step, parsed) for step in STEPS if step != "auxiliary"}
        results: _Results = {
            step: {
                scene: _Result(
                    manifest.metadata["provenance"],
                    _metadata(step, place, manifest, parsed[scene]),
                    _published(manifest),
                )
                for scene, (place, manifest) in published.items()
            }
            for step, published in manifests.items()
        }
        results["auxiliary"] = self._auxiliary(family, cubes, parsed, manifests["preprocessed_tile"])
        for step in STEPS:
            self._record(family, step, results)

    def _auxiliary(
        self,
        family: SceneFamily,
        cubes: AuxiliaryCubes,
        parsed: Mapping[str, Scene],
        tiles: "Mapping[str, tuple[Place, Manifest]]",
    ) -> dict[str, _Result]:
        """`auxiliary` stores nothing of a scene: its tile shows that the chunks under the scene were filled."""
        from darts_assets.stores.tiles import read_geobox

        results, same_ground = {}, dict[Any, "tuple[Cube, list[str]]"]()  # scenes of a tile need the same chunks
        for scene, (place, manifest) in tiles.items():
            parameters = manifest.metadata["provenance"]["parameters"]
            config = AuxiliaryConfig(tpi_outer_radius=parameters["tpi_outer_radius"])
            grid, used = json.dumps(manifest.metadata["grid"]), dict[str, Any]()
            for layer, name in parameters["layers"].items():
                ground = (name, parsed[scene].datetime.year, config.tpi_outer_radius, grid)
                if ground not in same_ground:
                    geobox = read_geobox(place, manifest)
                    same_ground[ground] = cubes.chunks_under(
                        layer, family, parsed[scene], geobox, config.tpi_outer_radius
                    )
                cube, keys = same_ground[ground]
                used[layer] = {"cube": cube.spec.name, "chunks": keys}
                if cube.spec.name != name:
                    problem = f"its tile was made with {name}, and by the settings it needs {cube.spec.name}"
                    self.done.problems[f"auxiliary of {scene}"] = problem
            inputs = {layer: ",".join(use["chunks"]) for layer, use in used.items()}
            facts = provenance(AUXILIARY_CODE, config.model_dump(), **inputs)
            if f"auxiliary of {scene}" not in self.done.problems:
                results[scene] = _Result(facts, used, _published(manifest))
        return results

    def _parsed(self, family: SceneFamily, registry: SceneRegistry, ids: Collection[str]) -> dict[str, Scene]:
        def parse(scene: str) -> Scene | DartsError:
            try:
                return registry.scene(family, scene)
            except DartsError as error:
                return error

        with ThreadPoolExecutor(_READERS, thread_name_prefix="items") as pool:
            read = dict(zip(ids, pool.map(parse, ids), strict=True))
        self.done.problems |= {scene: str(error) for scene, error in read.items() if isinstance(error, DartsError)}
        return {scene: parsed for scene, parsed in read.items() if isinstance(parsed, Scene)}

    def _manifests(
        self, family: SceneFamily, registry: SceneRegistry, step: str, parsed: Mapping[str, Scene]
    ) -> dict[str, tuple[Place, Manifest]]:
        """The published results of a step that belong to registered scenes and have a provenance."""
        root = registry.store.root
        if step == "raw_scene":
            folders = {source: raw_folder(root, source) for source in raw_folder(root).folders()}
        else:
            folders = {"": step_folder(root, family.name, step)}
        kept = {}
        for source, folder in folders.items():
            published = published_results(folder)
            for scene, reason in published.damaged.items():
                self.done.problems[f"{step} of {scene}"] = reason
            for scene, manifest in published.manifests.items():
                if scene not in parsed or (source and parsed[scene].source != source):
                    continue
                if "data_version" not in manifest.metadata.get("provenance", {}):
                    self.done.problems[f"{step} of {scene}"] = "its pointer has no provenance"
                else:
                    kept[scene] = (Place(folder.child(scene)), manifest)
        return kept

    def _record(self, family: SceneFamily, step: str, results: _Results) -> None:
        """Record the partitions of a step whose latest materialization has another data version."""
        asset, of_step = family.key(step), results[step]
        known = self._versions(asset, of_step)
        parents = self._parents[asset]
        newest = {parent: latest_materialization(self._instance, parent, None) for parent in parents}
        materializations = []
        for partition, result in of_step.items():
            if known.get(partition) == result.version:
                continue
            tags = data_version_tags(result.version, str(result.facts["code_version"]).rpartition("+")[2])
            for parent in parents:
                event = newest[parent]
                number = event.storage_id if event else None
                name = parent.path[-1]
                if parent.path[0] != family.name:  # all partitions: their versions are not compared
                    tags |= input_tags(parent, [], number)
                    continue
                current = results[name].get(partition)
                used = _used(results, step, name, partition) or (current.version if current else "")
                is_current = current is None or used == current.version
                tags |= input_tags(parent, [used], number if is_current else _ANOTHER_VERSION)
            metadata = as_metadata({**result.metadata, "provenance": result.facts})
            materializations.append(dg.AssetMaterialization(asset, partition=partition, metadata=metadata, tags=tags))
        self._write(materializations)
        self._published[asset] = max((result.published for result in of_step.values()), default="")

    def inventory(self, registry: SceneRegistry) -> None:
        """Record the inventories of the years, the slumps and their chips."""
        years = published_results(years_folder(registry.store.root))
        self.done.problems |= {f"inventory of {year}": reason for year, reason in years.damaged.items()}
        self._record_inventory(RTS, years.manifests, registry)
        for asset, place in ((SLUMPS, slumps_place), (CHIPS, chips_place)):
            try:
                manifest = place(registry.store.root).manifest()
            except DartsError as error:
                self.done.problems[f"inventory of {asset.path[-1]}"] = str(error)
            else:
                self._record_inventory(asset, {None: manifest} if manifest else {}, registry)

    def _record_inventory(self, asset: dg.AssetKey, manifests: Mapping[Any, Manifest], registry: SceneRegistry) -> None:
        partitions = [year for year in manifests if year is not None]
        known = self._versions(asset, partitions)
        if None in manifests and (latest := latest_materialization(self._instance, asset, None)):
            tags = (latest.asset_materialization and latest.asset_materialization.tags) or {}
            known[None] = tags.get(DATA_VERSION_TAG, "")
        materializations = []
        for partition, manifest in manifests.items():
            facts, published = manifest.metadata["provenance"], _published(manifest)
            self._published[asset] = max(published, self._published.get(asset, ""))
            if known.get(partition) == facts["data_version"]:
                continue
            tags = data_version_tags(facts["data_version"], str(facts["code_version"]).rpartition("+")[2])
            for parent in self._parents.get(asset, ()):
                event = latest_materialization(self._instance, parent, None)
                changed = self._published.get(parent, "") > published
                number = event.storage_id if event else None
                tags |= input_tags(parent, [], _ANOTHER_VERSION if changed else number)
            place = registry.store.place(*asset.path, *([partition] if partition else []))
            metadata = as_metadata(
                {"path": dg.MetadataValue.path(place.location.child(LATEST).url), "provenance": facts}
            )
            materializations.append(dg.AssetMaterialization(asset, partition=partition, metadata=metadata, tags=tags))
        self._write(materializations)

    def _versions(self, asset: dg.AssetKey, partitions: Collection[str]) -> dict[Any, str]:
        """Partition -> data version of its latest materialization."""
        keys, versions = list(partitions), dict[Any, str]()
        for start in range(0, len(keys), _BATCH):
            versions |= data_versions(self._instance, asset, keys[start : start + _BATCH])
        return versions

    def _write(self, materializations: list[dg.AssetMaterialization]) -> None:
        for start in range(0, len(materializations), _BATCH):
            record_without_run(self._instance, materializations[start : start + _BATCH])
        self.done.recorded.update(each.asset_key.to_user_string() for each in materializations)


def _used(results: _Results, step: str, parent: str, scene: str) -> str | None:
    """The data version of a parent that a step has used, by its inputs or theirs; None if it is not recorded."""
    result = results[step].get(scene)
    inputs = result.inputs if result else {}
    if parent in inputs:
        return inputs[parent]
    return next(filter(None, (_used(results, name, parent, scene) for name in inputs if name in results)), None)


def _published(manifest: Manifest) -> str:
    """The name of the latest version, which sorts by time; a released content is a replaced version."""
    return max(manifest.versions or manifest.replaced, default="")


def _metadata(step: str, place: Place, manifest: Manifest, scene: Scene) -> dict[str, Any]:
    """The metadata that the step has recorded, as far as the pointer has them."""
    facts = manifest.metadata
    parameters = facts["provenance"]["parameters"]
    if step == "polygons":
        summary = facts.get("summary", {})
        files = [f"{version}/{name}" for name, version in manifest.contents.items()]
        rows = {"dagster/row_count": summary["objects"]} if "objects" in summary else {}
        return {
            "path": dg.MetadataValue.path(place.location.url),
            "files": files,
            "summary": summary,
            **summary,
            **rows,
        }
    if step == "products":
        latest, summary = place.location.child(LATEST).url, facts.get("summary", {})
        objects = {"objects": summary["objects"]} if "objects" in summary else {}
        linked = {name: dg.MetadataValue.path(f"{latest}/{name}") for name in LINKED if name in manifest.contents}
        return {"path": dg.MetadataValue.path(latest), "files": sorted(manifest.contents), **objects, **linked}
    released = manifest.released
    kept = {"released": released["since"]} if released else {"path": dg.MetadataValue.path(place.current_url(manifest))}
    bands = list(manifest.contents or facts["coverage"])
    tile = {**kept, "coverage": facts["coverage"], "shape": str(tuple(facts["grid"]["shape"]))}
    if step == "raw_scene":
        checksums = {"checksums": facts["checksums"]} if facts.get("checksums") else {}
        return {**scene.summary(), "bands": bands, "stored": True, **checksums, **tile}
    about = {name: parameters[name] for name in ("terrain", "offset", "models") if name in parameters}
    return {**about, "bands": ", ".join(bands), **tile}
