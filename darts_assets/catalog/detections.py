"""Updates of the published table of detections, `catalog/detections/year=.../region=.../part.parquet`.

Each file is replaced atomically and keeps its name, so that `year=*/region=*/part.parquet` is readable at any time.
Since all detections of a scene are in one file, readers get either the old or the new ones. Files are replaced one
after the other: during an update some regions are older than others. `stac/detections/collection.json` lists the files
and is written last.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import shapely

from darts_assets.catalog import detection_rows as rows
from darts_assets.catalog.catalog_store import (
    BATCH,
    SingleWriter,
    Tree,
    concurrent_map,
    digest,
    pointers,
    read_products,
)
from darts_assets.catalog.detection_columns import COLUMNS
from darts_assets.catalog.scene_regions import covering
from darts_assets.catalog.stac_collections import detections_collection
from darts_assets.catalog.stac_tree import write_root
from darts_assets.stores.location import StoreLocation

_log = logging.getLogger(__name__)

LAYOUT = "4"
"""Version of the table's layout; if it changes, all files are written again."""

_State = dict[str, dict[str, str]]

_FOLDER = "detections"
_COLLECTION = "stac/detections/collection.json"


@dataclass
class DetectionsUpdate:
    """Result of an update.

    Attributes:
        scenes: number of scenes in the table, including those without detections.
        rows: number of detections.
        parts: file -> its `rows`, `bytes`, `bbox` (west, south, east, north), `start` and `end`.
        written: written files.
        deleted: removed files.
        left_out: scenes whose products lack polygons or the metadata that the catalog needs.
        version: hash of the table's content.
    """

    scenes: int = 0
    rows: int = 0
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    version: str = ""


@dataclass
class _Change:
    """Changes of a file: scenes to remove, and scenes whose rows are new or replace older ones."""

    gone: list[str] = field(default_factory=list)
    added: list[rows.Source] = field(default_factory=list)


def update_detections(
    root: StoreLocation, families: Sequence[str], *, licence: str, rebuild: bool = False
) -> DetectionsUpdate:
    """Update the table of detections to the products in the store.

    Only files with changed scenes are written. One file is in memory at a time.

    Args:
        root: root of the store.
        families: families of scenes.
        licence: licence of the results: SPDX identifier, or `other`.
        rebuild: write all files again.

    Raises:
        StoreError: if another run has started to write the catalog.
        NotReadableError: if the collection is damaged.
    """
    store, tree, done = Tree(root), Tree(root.child("catalog")), DetectionsUpdate()
    with SingleWriter(tree, ".detections.writer") as writer:
        tree.remove_unfinished(_FOLDER)
        collection = tree.document(_COLLECTION) or {}
        fresh = rebuild or collection.get("darts:layout") != LAYOUT
        before: _State = {} if fresh else collection["darts:state"]
        parts: dict[str, dict[str, Any]] = {} if fresh else dict(collection["darts:parts"])
        state, changes = _compare(store, families, before, done)
        if changes:
            # Recorded first, so that a run after a killed one knows which files may hold which scenes.
            writer.check()
            pending = {source.scene: _state("", "", part) for part, new in changes.items() for source in new.added}
            current = collection or _document({}, {}, licence)
            layout = "" if fresh else LAYOUT  # a rebuild is not complete yet
            tree.write(_COLLECTION, {**current, "darts:state": {**before, **pending}, "darts:layout": layout})
        for count, (part, change) in enumerate(sorted(changes.items()), start=1):
            writer.check()
            facts, late = _replace(store, tree, part, change, whole=part not in parts)
            for scene in late:  # published again in the meantime: left to the next update
                state[scene] = before.get(scene, _state("", "", part))
            parts.pop(part, None)
            if facts:
                parts[part] = facts
                done.written.append(part)
            _log.info("detections: %d of %d files: %s, %d rows", count, len(changes), part, facts.get("rows", 0))
        writer.check()
        document = _document(parts, state, licence)
        if changes or document != collection:
            tree.write(_COLLECTION, document)
        files = {key.removeprefix(f"{_FOLDER}/") for key in tree.tags(f"{_FOLDER}/")}
        done.deleted = sorted(files - parts.keys())
        tree.remove(f"{_FOLDER}/{part}" for part in done.deleted)
        write_root(store, tree)
    done.scenes, done.rows = len(state), sum(part["rows"] for part in parts.values())
    done.parts = dict(sorted(parts.items()))
    done.version = digest({scene: entry["version"] for scene, entry in state.items()})
    return done


def _compare(
    store: Tree, families: Sequence[str], before: _State, done: DetectionsUpdate
) -> tuple[_State, dict[str, _Change]]:
    """The state of each scene to store, and the changes of each file."""
    state: _State = {}
    changes: defaultdict[str, _Change] = defaultdict(_Change)
    for family in families:
        tags = pointers(store, family)
        unread = [scene for scene, tag in sorted(tags.items()) if before.get(scene, {}).get("pointer") != tag]
        state |= {scene: before[scene] for scene in tags.keys() - unread}
        _log.info("%s: %d scenes with products, %d new or published again", family, len(tags), len(unread))
        for count, (scene, source) in enumerate(_sources(store, family, unread), start=1):
            if count % (4 * BATCH) == 0:
                _log.info("%s: %d of %d scenes compared", family, count, len(unread))
            if source is None:
                done.left_out.append(scene)
                continue
            state[scene] = _state(tags[scene], source.version, source.part)
            old = before.get(scene)
            if old is None or (old["version"], old["part"]) != (source.version, source.part):
                changes[source.part].added.append(source)
    for scene, old in before.items():
        if scene not in state or state[scene]["part"] != old["part"]:
            changes[old["part"]].gone.append(scene)
    return state, changes


def _sources(store: Tree, family: str, scenes: Sequence[str]) -> Iterator[tuple[str, rows.Source | None]]:
    def source(scene: str) -> tuple[str, rows.Source | None]:
        products = read_products(store, family, scene)
        return scene, rows.source_of(products) if products else None

    return concurrent_map(source, scenes)


def _replace(store: Tree, tree: Tree, part: str, change: _Change, *, whole: bool) -> tuple[dict[str, Any], list[str]]:
    """Replace a file.

    Args:
        store: the store with the polygons.
        tree: the catalog.
        part: key of the file.
        change: changes of its scenes.
        whole: whether to discard the current content.

    Returns:
        Facts about the file, empty if it has no rows left (it is removed at the end); and the scenes whose polygons no
        longer exist, whose rows are not changed.
    """
    before = None if whole else tree.table(f"{_FOLDER}/{part}")
    read = list(concurrent_map(lambda source: (source, store.read(source.key)), change.added))
    added = [(source.scene, rows.rows_of(source, content)) for source, content in read if content is not None]
    late = [source.scene for source, content in read if content is None]
    table = rows.merged(before, [*change.gone, *(scene for scene, _ in added)], [frame for _, frame in added])
    if table is None:
        return {}, late
    with tree.file_for(_FOLDER, part) as path:
        rows.write_part(table, path)
        size = path.stat().st_size
    times = table["datetime"].agg(["min", "max"]).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    boxes = shapely.bounds(shapely.get_parts(table.geometry.to_numpy()))
    facts = {"rows": len(table), "bytes": size, "bbox": covering(boxes.tolist())}
    return {**facts, "start": times["min"], "end": times["max"]}, late


def _document(parts: Mapping[str, Mapping[str, Any]], state: _State, licence: str) -> dict[str, Any]:
    columns = [{"name": name, "type": kind, "description": text} for name, (kind, text) in COLUMNS.items()]
    return {**detections_collection(parts, state, columns, licence), "darts:layout": LAYOUT}


def _state(pointer: str, version: str, part: str) -> dict[str, str]:
    """State of a scene: entity tag of its pointer, version of its rows, file that holds them."""
    return {"pointer": pointer, "version": version, "part": part}
