"""What the catalog is made of: the products that the store has published, by their pointers."""

import json
from dataclasses import dataclass
from typing import Any

from darts_assets.catalog.catalog_store import Tree

_POINTER = "current.json"


@dataclass(frozen=True)
class Products:
    """The products of a scene as they are published now.

    Attributes:
        family: of the scene.
        scene: its id.
        contents: name of each file -> the version (folder) that holds it.
        facts: what `products` published about them: `provenance`, `metadata`, `item`, `grid`, `footprint`, `summary`,
            `files`.
    """

    family: str
    scene: str
    contents: dict[str, str]
    facts: dict[str, Any]

    def key(self, file: str) -> str:
        """Where a file is, from the root of the store."""
        return f"products/{self.family}/{self.scene}/{self.contents[file]}/{file}"


def pointers(root: Tree, family: str) -> dict[str, str]:
    """Scenes of a family that have products -> entity tag of their pointer, which changes with every publication."""
    folder = f"products/{family}/"
    found = {}
    for key, tag in root.tags(folder).items():
        scene, _, name = key.removeprefix(folder).partition("/")
        if name == _POINTER:
            found[scene] = tag
    return found


def read_products(root: Tree, family: str, scene: str) -> Products | None:
    """The products of a scene.

    None if they have just gone, if their pointer is damaged, or if they were published by a version of this package
    that did not yet tell what catalogs need: these have to be materialized again.
    """
    raw = root.read(f"products/{family}/{scene}/{_POINTER}")
    try:
        pointer = json.loads(raw or b"")
        contents, facts = dict(pointer["contents"]), dict(pointer["metadata"])
    except (ValueError, KeyError, TypeError):
        return None
    return Products(family, scene, contents, facts) if "footprint" in facts else None
