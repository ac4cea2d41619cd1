"""Access to the store for the catalog: objects, concurrent requests, a single writer, published products."""

import hashlib
import json
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import obstore

from darts_assets.errors import NotReadableError, StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place

if TYPE_CHECKING:
    import geopandas as gpd

A = TypeVar("A")
B = TypeVar("B")

CONCURRENCY = 32
"""Concurrent requests to the store."""

BATCH = 256
"""Scenes whose metadata are in memory at a time."""

_POINTER = "current.json"


def concurrent_map(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results of `work` in the order of `items`, computed in threads; at most `BATCH` are in memory."""
    remaining = iter(items)
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        while batch := list(islice(remaining, BATCH)):
            yield from pool.map(work, batch)


def digest(document: Mapping[str, Any]) -> str:
    """Hash of a document's content, used as the name of its version."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def model_id(name: str, sha256: str) -> str:
    """Id of a model's item."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}-{sha256[:16]}"


class Tree:
    """The objects below a location, by relative keys; those of rooms of a store that lie elsewhere are read there.

    Attributes:
        location: the root; a local folder is created.
    """

    def __init__(self, location: StoreLocation) -> None:
        self.location = location
        self._objects = location.objects()
        self._rooms = {name: Tree(room) for name, room in location.rooms}

    def _at(self, key: str) -> "tuple[Tree, str]":
        """The tree with an object, and its key there."""
        room, _, own = key.partition("/")
        return (self._rooms[room], own) if room in self._rooms else (self, key)

    def tags(self, prefix: str = "") -> dict[str, str]:
        """Keys below a prefix -> entity tags, which change with every write. Lists, without reading objects."""
        tree, own = self._at(prefix)
        if tree is not self:
            return {f"{prefix.removesuffix(own)}{key}": tag for key, tag in tree.tags(own).items()}
        return {
            entry["path"]: str(entry["e_tag"])
            for batch in obstore.list(self._objects, prefix or None)
            for entry in batch
        }

    def read(self, key: str) -> bytes | None:
        """Content of an object, None if it does not exist."""
        tree, own = self._at(key)
        try:
            return bytes(obstore.get(tree._objects, own).bytes())
        except FileNotFoundError:
            return None

    def table(self, key: str) -> "gpd.GeoDataFrame | None":
        """Content of a GeoParquet object, None if it does not exist."""
        import geopandas as gpd

        tree, own = self._at(key)
        try:
            return gpd.read_parquet(tree.location.file(own), filesystem=tree.location.filesystem())
        except FileNotFoundError:
            return None

    def document(self, key: str) -> dict[str, Any] | None:
        """Content of a JSON object, None if it does not exist.

        Raises:
            NotReadableError: if it is damaged.
        """
        raw = self.read(key)
        try:
            return None if raw is None else dict(json.loads(raw))
        except (ValueError, TypeError) as error:
            raise NotReadableError(f"{self.location}: {key} is damaged: {error}") from error

    def write(self, key: str, document: dict[str, Any]) -> None:
        """Write a JSON object atomically."""
        obstore.put(self._objects, key, json.dumps(document, separators=(",", ":")).encode())

    def exists(self, key: str) -> bool:
        """Whether an object exists."""
        try:
            obstore.head(self._objects, key)
        except FileNotFoundError:
            return False
        return True

    def tag(self, key: str) -> str:
        """Entity tag of an object, empty if it does not exist."""
        tree, own = self._at(key)
        try:
            return str(obstore.head(tree._objects, own)["e_tag"])
        except FileNotFoundError:
            return ""

    @contextmanager
    def file_for(self, folder: str, name: str) -> Iterator[Path]:
        """A path to write a file to. It becomes the object `folder/name` if the block ends without an exception.

        In a local store the file is written in `folder/.writing-...` and then moved.
        """
        parent = self.location.path / folder if self.location.is_local else None
        if parent:
            parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".writing-") as scratch:
            path = Path(scratch) / "file"
            yield path
            if parent:
                (parent / name).parent.mkdir(parents=True, exist_ok=True)
                path.replace(parent / name)
            else:
                obstore.put(self._objects, f"{folder}/{name}", path)

    def remove(self, keys: Iterable[str]) -> int:
        """Delete objects and, in a local store, folders that become empty; returns the number of objects."""
        keys = list(keys)
        for start in range(0, len(keys), 1000):
            with suppress(FileNotFoundError):
                obstore.delete(self._objects, keys[start : start + 1000])
        if self.location.is_local:
            for folder in {(self.location.path / key).parent for key in keys}:
                with suppress(OSError):  # not empty
                    folder.rmdir()
                    folder.parent.rmdir()
        return len(keys)

    def remove_unfinished(self, folder: str) -> None:
        """Remove incomplete files of killed writers from a folder."""
        if self.location.is_local:
            for unfinished in (self.location.path / folder).glob(".writing-*"):
                shutil.rmtree(unfinished, ignore_errors=True)
            for staged in (self.location.path / folder).rglob("*#*"):  # `NAME#1` of an interrupted PUT
                if staged.name.rpartition("#")[2].isdecimal() and staged.is_file():
                    staged.unlink(missing_ok=True)


class SingleWriter:
    """Marks the current writer of a tree. If two overlap, the later one continues and the earlier one fails."""

    def __init__(self, tree: Tree, key: str) -> None:
        self._tree, self._key, self._id = tree, key, uuid.uuid4().hex

    def __enter__(self) -> "SingleWriter":
        self._tree.write(self._key, {"writer": self._id})
        return self

    def __exit__(self, *raised: object) -> None:
        if self._is_current():
            self._tree.remove([self._key])

    def check(self) -> None:
        """Check that no other writer has started; to be called before publishing.

        Raises:
            StoreError: if another writer has started.
        """
        if not self._is_current():
            raise StoreError(f"{self._tree.location}: another run is writing the catalog; this run does not publish")

    def _is_current(self) -> bool:
        marker = self._tree.document(self._key)
        return marker is not None and marker.get("writer") == self._id


@dataclass(frozen=True)
class Products:
    """The published products of a scene.

    Attributes:
        family: family of the scene.
        scene: id of the scene.
        contents: file name -> version (folder) that holds it.
        facts: metadata from `products`: `provenance metadata item grid footprint summary files`.
        rooms: rooms of the store that lie elsewhere: name -> path or URL.
    """

    family: str
    scene: str
    contents: dict[str, str]
    facts: dict[str, Any]
    rooms: Mapping[str, str] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """Ids of the models."""
        return [model_id(name, sha256) for name, sha256 in self.facts["metadata"]["models"].items()]

    @property
    def raw(self) -> str:
        """Key of the folder of the raw scene; empty if the products were made without a stored one."""
        tile = self.facts.get("tiles", {}).get("raw_scene")
        return str(tile["key"]).rpartition("/")[0] if tile else ""

    def key(self, file: str) -> str:
        """Key of a file, from the root of the store."""
        return f"products/{self.family}/{self.scene}/{self.contents[file]}/{file}"

    def href(self, key: str, to_root: str) -> str:
        """The href of a key of the store from a document from which `to_root` leads to the root of the store."""
        room, _, own = key.partition("/")
        return f"{self.rooms[room]}/{own}" if room in self.rooms else to_root + key


def pointers(root: Tree, family: str) -> dict[str, str]:
    """Scenes of a family with products -> entity tag of their pointer, which changes with every publication."""
    folder = f"products/{family}/"
    keys = ((*key.removeprefix(folder).partition("/"), tag) for key, tag in root.tags(folder).items())
    return {scene: tag for scene, _, name, tag in keys if name == _POINTER}


def read_products(root: Tree, family: str, scene: str) -> Products | None:
    """The products of a scene.

    Returns None if they no longer exist, if their pointer is damaged, or if an older version of this package published
    them without the metadata that a catalog needs; these have to be materialized again.
    """
    raw = root.read(f"products/{family}/{scene}/{_POINTER}")
    try:
        pointer = json.loads(raw or b"")
        contents, facts = dict(pointer["contents"]), dict(pointer["metadata"])
    except (ValueError, KeyError, TypeError):
        return None
    rooms = {name: str(room) for name, room in root.location.rooms}
    return Products(family, scene, contents, facts, rooms) if "footprint" in facts else None


def registered_item(root: Tree, family: str, scene: str) -> dict[str, Any] | None:
    """The registered STAC item of a scene, None if it does not exist or is damaged."""
    try:
        return root.document(f"scenes/{family}/{scene}.json")
    except NotReadableError:
        return None


def raw_tag(root: Tree, raw: str) -> str:
    """Entity tag of the pointer of a raw scene, which changes with every publication; empty if there is none."""
    return root.tag(f"{raw}/{_POINTER}") if raw else ""


def with_current_raw(root: Tree, products: Products) -> Products:
    """The products with the current version of their raw scene, which also has the bands fetched since.

    A raw scene that cannot be read stays the version that the products were made from.
    """
    if not products.raw:
        return products
    place = Place(root.location.child(*products.raw.split("/")))
    try:
        manifest = place.require()
        key = root.location.key_of(place.current_url(manifest))
    except NotReadableError:
        return products
    tiles = products.facts["tiles"] | {"raw_scene": {"key": key, "bands": list(manifest.contents)}}
    return replace(products, facts=products.facts | {"tiles": tiles})
