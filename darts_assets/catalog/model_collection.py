"""The models of the catalog, `catalog/stac/models`: kept once, by the hash of their checkpoint, and never changed."""

import shutil
from collections.abc import Collection, Sequence

from darts_assets.catalog.catalog_store import Tree
from darts_assets.catalog.collections import models_collection
from darts_assets.catalog.model_item import Model, model_id, model_item

_FOLDER = "stac/models"
_COLLECTION = f"{_FOLDER}/collection.json"


class ModelShelf:
    """The models that are kept, and those that can be.

    Args:
        tree: the catalog.
        models: whose checkpoints are at hand.
        licence: SPDX identifier, or `other`.
        rebuild: keep those at hand anew, once they are needed.
    """

    def __init__(self, tree: Tree, models: Sequence[Model], *, licence: str, rebuild: bool = False) -> None:
        tree.remove_unfinished(_FOLDER)
        links = (tree.document(_COLLECTION) or {}).get("links", [])
        self._kept = {link["href"].removeprefix("./").removesuffix(".json") for link in links if link["rel"] == "item"}
        self._at_hand = {model_id(model.name, model.sha256): model for model in models}
        self._current = self._kept - self._at_hand.keys() if rebuild else set(self._kept)
        self._tree, self._licence = tree, licence

    @property
    def kept(self) -> list[str]:
        """Ids of the models that are told."""
        return sorted(self._kept)

    @property
    def known(self) -> set[str]:
        """Ids of those that are told, or can be."""
        return self._kept | self._at_hand.keys()

    def keep(self, names: Collection[str]) -> None:
        """Make sure that models (ids out of `known`) are told; their checkpoints are copied first."""
        missing = sorted(set(names) - self._current)
        for name in missing:
            model = self._at_hand[name]
            weights = f"{name}{model.path.suffix}"
            with self._tree.file_for(_FOLDER, weights) as path:
                shutil.copyfile(model.path, path)
            self._tree.write(f"{_FOLDER}/{name}.json", model_item(model, f"./{weights}"))
        self._kept |= set(missing)
        self._current |= set(missing)
        if missing:
            self._tree.write(_COLLECTION, models_collection(self._kept, self._licence))
