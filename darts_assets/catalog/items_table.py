"""All items of a collection in one file, `catalog/stac/<collection>/items.parquet`, in the format stac-geoparquet.

The file is replaced in one step, just before the collection. An update keeps the rows of items that have not changed
and reads only the others.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from darts_assets.catalog.catalog_store import Tree, concurrent_map, digest
from darts_assets.catalog.item_folder import ITEMS_TABLE, Entry
from darts_assets.errors import NotReadableError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_STATE = "darts:items"
"""Key of the collection within the file, with a hash of the hrefs of its items: whether the file is current."""

_ROWS = 1000
"""Rows per row group; items that are converted at a time."""


def update_items_table(tree: Tree, key: str, collection: Mapping[str, Any], entries: Iterable[Entry]) -> int:
    """Bring the table of a collection up to date.

    Rows are ordered by id. Relative hrefs are relative to the table's folder; the first link of each row is `self`, the
    item in the tree.

    Args:
        tree: the catalog, with the items.
        key: key of the folder of the collection.
        collection: the collection, kept in the file without its links.
        entries: links to all items, at least one.

    Returns:
        The number of rows that were written anew; 0 if the table is current.

    Raises:
        NotReadableError: if an item does not exist.
    """
    import pyarrow as pa
    from stac_geoparquet.arrow import parse_stac_items_to_arrow, to_parquet

    hrefs, name = {entry["href"] for entry in entries}, str(collection["id"])
    state = digest(dict.fromkeys(sorted(hrefs)))
    tables = []
    with _published(tree, key) as parquet:
        if parquet is not None:
            if _state(parquet, name) == state:
                return 0
            before = parquet.read()
            tables.append(before.filter(pa.array([href in hrefs for href in _selves(before)], pa.bool_())))
    missing = sorted(hrefs.difference(*map(_selves, tables)))
    rows = concurrent_map(lambda href: _row(tree, key, href), missing)
    while batch := list(islice(rows, _ROWS)):
        tables.append(parse_stac_items_to_arrow(batch).read_all())
    table = pa.concat_tables(tables, promote_options="permissive").sort_by("id").combine_chunks()
    about = {**collection, "links": [], _STATE: state}
    with tree.file_for(key, ITEMS_TABLE) as path:
        reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=_ROWS))
        to_parquet(reader, path, schema_version="1.1.0", collections={name: about}, compression="zstd")
    return len(missing)


def read_items(table: "pa.Table") -> Iterator[dict[str, Any]]:
    """The items of a table, with the hrefs that it has. Fields that are null are absent."""
    from stac_geoparquet.arrow import stac_table_to_items

    yield from map(_without_nulls, stac_table_to_items(table))


@contextmanager
def _published(tree: Tree, key: str) -> "Iterator[pq.ParquetFile | None]":
    """The published table, None if there is none."""
    import pyarrow.parquet as pq

    location, file = tree.location, f"{key}/{ITEMS_TABLE}"
    if not tree.exists(file):
        yield None
        return
    with pq.ParquetFile(location.file(file), filesystem=location.filesystem()) as parquet:
        yield parquet


def _state(parquet: "pq.ParquetFile", name: str) -> str:
    about = json.loads((parquet.schema_arrow.metadata or {}).get(b"stac-geoparquet", b"{}"))
    return str(about.get("collections", {}).get(name, {}).get(_STATE, ""))


def _selves(table: "pa.Table") -> list[str]:
    """The href of the first link of each row."""
    import pyarrow.compute as pc

    links = table["links"].combine_chunks()
    hrefs: list[str] = pc.struct_field(pc.list_element(links, 0), "href").to_pylist()
    return hrefs


def _row(tree: Tree, key: str, href: str) -> dict[str, Any]:
    """An item with hrefs relative to the folder of the collection, and a link to itself."""
    item = tree.document(f"{key}/{href.removeprefix('./')}")
    if item is None:
        raise NotReadableError(f"{tree.location}: {key}/{href.removeprefix('./')} does not exist; rebuild the catalog")
    for linked in (*item["links"], *item["assets"].values()):
        linked["href"] = _from_parent(linked["href"])
    own = {"rel": "self", "href": href, "type": "application/geo+json", "title": item["id"]}
    return {**item, "links": [own, *item["links"]]}


def _from_parent(href: str) -> str:
    """An href from the folder of an item, as seen from the parent folder."""
    if not href.startswith("../"):
        return href
    shorter = href.removeprefix("../")
    return shorter if shorter.startswith("../") else f"./{shorter}"


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
