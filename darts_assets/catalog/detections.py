"""The published table of detections, `catalog/detections/year=.../region=.../part.parquet`, brought up to date.

Each file is replaced in one step and keeps its name, so that the pattern `year=*/region=*/part.parquet` can be read at
any time: a scene is in exactly one file, hence readers see all of its detections as they were or as they are, never a
part of them and never both. Files are replaced one after the other, so that, while a run goes on, some regions are
older than others; `stac/detections/collection.json` names the files and is put last.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import geopandas as gpd
import shapely

from darts_assets.catalog import rows
from darts_assets.catalog.catalog_store import BATCH, Tree, Turn, side_by_side
from darts_assets.catalog.collections import detections_collection
from darts_assets.catalog.detection_columns import COLUMNS
from darts_assets.catalog.extents import covering
from darts_assets.catalog.published_products import pointers, read_products
from darts_assets.catalog.stac_tree import write_root
from darts_assets.catalog.vocabulary import digest
from darts_assets.stores.location import StoreLocation

_log = logging.getLogger(__name__)

LAYOUT = "1"
"""Of the table: a change writes all of it anew."""

_State = dict[str, dict[str, str]]

_FOLDER = "detections"
_COLLECTION = "stac/detections/collection.json"


@dataclass
class DetectionsUpdate:
    """What an update has done.

    Attributes:
        scenes: that the table speaks of, with detections or without.
        rows: detections in the table.
        parts: files of it -> their `rows`, `bytes`, `bbox` (west, south, east, north), `start` and `end`.
        written: files that were written.
        deleted: files that were removed.
        left_out: scenes whose products have no polygons, or do not tell what the catalog needs.
        version: of the table's content.
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
    """What changes in a file: scenes that leave it, and scenes whose rows are new or replace older ones."""

    gone: list[str] = field(default_factory=list)
    added: list[rows.Source] = field(default_factory=list)


def update_detections(
    root: StoreLocation, families: Sequence[str], *, licence: str, rebuild: bool = False
) -> DetectionsUpdate:
    """Bring the table of detections up to date with the products in the store.

    Files without a scene whose polygons have changed are not written. One file is in memory at a time.

    Args:
        root: of the store.
        families: of scenes.
        licence: of the results: SPDX identifier, or `other`.
        rebuild: write all files anew.

    Raises:
        StoreError: if another run has begun to write the catalog meanwhile.
        NotReadableError: if the collection is damaged.
    """
    store, tree, done = Tree(root), Tree(root.child("catalog")), DetectionsUpdate()
    with Turn(tree, ".detections.writer") as turn:
        tree.remove_unfinished(_FOLDER)
        collection = tree.document(_COLLECTION) or {}
        fresh = rebuild or collection.get("darts:layout") != LAYOUT
        before: _State = {} if fresh else collection["darts:state"]
        parts: dict[str, dict[str, Any]] = {} if fresh else dict(collection["darts:parts"])
        state, changes = _compare(store, families, before, done)
        if changes:
            # Said before it is done: a run after a killed one must know which files may hold which scenes.
            turn.check()
            doubtful = {source.scene: _memory("", "", part) for part, new in changes.items() for source in new.added}
            known = collection or _document({}, {}, licence)
            layout = "" if fresh else LAYOUT  # all is written anew until it has been
            tree.write(_COLLECTION, {**known, "darts:state": {**before, **doubtful}, "darts:layout": layout})
        for count, (part, change) in enumerate(sorted(changes.items()), start=1):
            turn.check()
            facts, late = _replace(store, tree, part, change, whole=part not in parts)
            for scene in late:  # published again just now: the next run will see it
                state[scene] = before.get(scene, _memory("", "", part))
            parts.pop(part, None)
            if facts:
                parts[part] = facts
                done.written.append(part)
            _log.info("detections: %d of %d files: %s, %d rows", count, len(changes), part, facts.get("rows", 0))
        turn.check()
        wanted = _document(parts, state, licence)
        if changes or wanted != collection:
            tree.write(_COLLECTION, wanted)
        found = {key.removeprefix(f"{_FOLDER}/") for key in tree.tags(f"{_FOLDER}/")}
        done.deleted = sorted(found - parts.keys())
        tree.remove(f"{_FOLDER}/{part}" for part in done.deleted)
        write_root(tree)
    done.scenes, done.rows = len(state), sum(part["rows"] for part in parts.values())
    done.parts = dict(sorted(parts.items()))
    done.version = digest({scene: known["version"] for scene, known in state.items()})
    return done


def _compare(
    store: Tree, families: Sequence[str], before: _State, done: DetectionsUpdate
) -> tuple[_State, dict[str, _Change]]:
    """What is to be remembered of each scene, and what changes in each file."""
    state: _State = {}
    changes: defaultdict[str, _Change] = defaultdict(_Change)
    for family in families:
        there = pointers(store, family)
        unread = [scene for scene, tag in sorted(there.items()) if before.get(scene, {}).get("pointer") != tag]
        state |= {scene: before[scene] for scene in there.keys() - unread}
        _log.info("%s: %d scenes have products, %d of them new or published again", family, len(there), len(unread))
        for count, (scene, source) in enumerate(_sources(store, family, unread), start=1):
            if count % (4 * BATCH) == 0:
                _log.info("%s: %d of %d scenes compared", family, count, len(unread))
            if source is None:
                done.left_out.append(scene)
                continue
            state[scene] = _memory(there[scene], source.version, source.part)
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

    return side_by_side(source, scenes)


def _replace(store: Tree, tree: Tree, part: str, change: _Change, *, whole: bool) -> tuple[dict[str, Any], list[str]]:
    """Replace a file.

    Args:
        store: where polygons are.
        tree: the catalog.
        part: key of the file.
        change: what changes in it.
        whole: whether nothing of the file that may be there is kept.

    Returns:
        Facts about it, none if nothing is left in it (it is removed at the end); and the scenes whose polygons were
        not there any more, which are left as they were.
    """
    raw = None if whole else tree.read(f"{_FOLDER}/{part}")
    before = None if raw is None else gpd.read_parquet(BytesIO(raw))
    read = list(side_by_side(lambda source: (source, store.read(source.key)), change.added))
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


def _memory(pointer: str, version: str, part: str) -> dict[str, str]:
    """What is remembered of a scene: the entity tag of its pointer, the version of its rows, the file they are in."""
    return {"pointer": pointer, "version": version, "part": part}
