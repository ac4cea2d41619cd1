"""Segmentation models as STAC items with the MLM extension (Machine Learning Model), and their collection.

Models lie in `catalog/stac/models`, with their checkpoints if these are published, named by checkpoint hash. A
published model changes only if its checkpoint is added or withheld.
"""

import base64
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pystac
from pystac.extensions.classification import Classification
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import Hyperparameters, MLMExtension, ModelInput, ModelOutput, ResultStructure, TaskType

from darts_assets.bands import band
from darts_assets.catalog.catalog_store import Tree, digest, model_id
from darts_assets.catalog.scene_item import link, multihash
from darts_assets.catalog.stac_collections import WORLD, models_collection

_FOLDER = "stac/models"
_COLLECTION = f"{_FOLDER}/collection.json"
_WITHHELD = "Checkpoint, not published"


class Model(Protocol):
    """A model with its checkpoint, such as `darts_assets.model.CheckpointHeader`."""

    @property
    def path(self) -> Path: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def bands(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def architecture(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def terrain(self) -> str | None: ...  # noqa: D102
    @property
    def temperature(self) -> float | None: ...  # noqa: D102
    @property
    def card(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102


class ModelCollection:
    """The published models and those that can be published.

    Args:
        tree: the catalog.
        models: models with a local checkpoint.
        licence: SPDX identifier, or `other`.
        rebuild: publish models again when they are next used.
        publish_checkpoints: whether checkpoints are copied into the catalog.

    Attributes:
        withheld: ids of the published models whose checkpoints the catalog withholds; set by `conform`.
    """

    def __init__(
        self,
        tree: Tree,
        models: Sequence[Model],
        *,
        licence: str,
        rebuild: bool = False,
        publish_checkpoints: bool = True,
    ) -> None:
        tree.remove_unfinished(_FOLDER)
        self._copies = publish_checkpoints
        self._document = tree.document(_COLLECTION)
        links = (self._document or {}).get("links", [])
        hrefs = [link["href"] for link in links if link["rel"] == "item"]
        self._published = {href.removeprefix("./").removesuffix(".json") for href in hrefs}
        self._local = {model_id(model.name, model.sha256): model for model in models}
        self._current = self._published - self._local.keys() if rebuild else set(self._published)
        self._tree, self._licence = tree, licence
        self.withheld: list[str] = []

    @property
    def published(self) -> list[str]:
        """Ids of the published models."""
        return sorted(self._published)

    @property
    def available(self) -> set[str]:
        """Ids of models that are published or have a local checkpoint."""
        return self._published | self._local.keys()

    def publish(self, ids: Collection[str]) -> None:
        """Publish models that are not published yet (ids of `available`): checkpoint, item, then collection."""
        missing = sorted(set(ids) - self._current)
        for name in missing:
            model = self._local[name]
            weights = f"{name}{model.path.suffix}"
            if self._copies:
                with self._tree.file_for(_FOLDER, weights) as path:
                    shutil.copyfile(model.path, path)
            card = f"{name}.md" if model.card.get("markdown") else None
            if card:
                with self._tree.file_for(_FOLDER, card) as path:
                    path.write_text(model.card["markdown"])
            item = model_item(model, f"./{weights}" if self._copies else None, f"./{card}" if card else None)
            self._tree.write(f"{_FOLDER}/{name}.json", item)
        self._published |= set(missing)
        self._current |= set(missing)
        if self._published and (document := models_collection(self._published, self._licence)) != self._document:
            self._tree.write(_COLLECTION, document)
            self._document = document

    def conform(self) -> None:
        """Add or remove the checkpoints of models that were published with the other `publish_checkpoints`.

        A checkpoint can be added only if it is local.
        """
        keys = (key for key in self._tree.tags(f"{_FOLDER}/") if not key.endswith((".json", ".md")))
        checkpoints = {key.removeprefix(f"{_FOLDER}/").rpartition(".")[0]: key for key in keys}
        if self._copies:
            absent = (self._published - checkpoints.keys()) & self._local.keys()
            self._current -= absent
            self.publish(absent)
            return
        for name in sorted(self._published & checkpoints.keys()):
            if item := self._tree.document(f"{_FOLDER}/{name}.json"):
                withheld = {"href": _hash_name(item["properties"]["darts:sha256"]), "title": _WITHHELD}
                assets = {**item["assets"], "checkpoint": {**item["assets"]["checkpoint"], **withheld}}
                self._tree.write(f"{_FOLDER}/{name}.json", {**item, "assets": assets})
        self._tree.remove(sorted(checkpoints.values()))  # after the items that link to them
        self.withheld = self.published


def model_item(model: Model, weights: str | None, card: str | None = None) -> dict[str, Any]:
    """The STAC item of a model, for `catalog/stac/models/`.

    Args:
        model: header of the checkpoint.
        weights: path of the checkpoint relative to the item; None if it is not published: its href then is a name by
            its hash.
        card: path of the model card relative to the item; None if the model has none.
    """
    bands = [band(name) for name in model.bands]
    described = [{"name": each.name, "description": each.long_name, "data_type": "float32"} for each in bands]
    architecture = model.architecture
    west, south, east, north = WORLD
    corners = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    item = pystac.Item(
        model_id(model.name, model.sha256), {"type": "Polygon", "coordinates": [corners]}, WORLD, None,
        {  # for scenes of any time
            "start_datetime": "1900-01-01T00:00:00Z",
            "end_datetime": "9999-12-31T23:59:59Z",
            "title": f"Thaw slump segmentation {model.name}",
            "bands": described,
            "darts:sha256": model.sha256,
            **({"darts:terrain": model.terrain} if model.terrain else {}),
            **({"darts:temperature": model.temperature} if model.temperature is not None else {}),
            **({"darts:accuracy": model.card["accuracy"]} if model.card.get("accuracy") else {}),
            **({"license": model.card["licence"]} if model.card.get("licence") else {}),
        },
        collection="models",
    )  # fmt: skip
    # MLM requires names of at least three characters that start with a letter.
    allowed = re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", model.name)
    mlm = MLMExtension.ext(item, add_if_missing=True)
    mlm.mlm_name = model.name if allowed else f"model-{digest({'name': model.name})}"
    mlm.architecture = " ".join(filter(None, (architecture["arch"], architecture.get("encoder_name"))))
    mlm.tasks = [TaskType.SEMANTIC_SEGMENTATION]
    mlm.framework = "PyTorch"
    scaling = [{"type": "min-max", "minimum": each.valid[0], "maximum": each.valid[1]} for each in bands]
    # Not by `ModelInput.create`: pystac 1.15 accepts only one scaling for all bands.
    shape = _tensor([-1, len(bands), -1, -1], "bands")
    mlm.input = [
        ModelInput(
            {"name": "features", "bands": [each.name for each in bands], "input": shape, "value_scaling": scaling}
        )
    ]
    slump = Classification.create(1, "Retrogressive thaw slump", "thaw-slump")
    result = ResultStructure(_tensor([-1, 1, -1, -1], "channel"))
    mlm.output = [ModelOutput.create("probabilities", mlm.tasks, result, classes=[slump])]
    mlm.hyperparameters = Hyperparameters({k: v for k, v in architecture.items() if re.fullmatch(r"[\w.-]+", k, re.A)})
    item.links = [
        link("root", "../../catalog.json"), link("parent", "collection.json"), link("collection", "collection.json")
    ]  # fmt: skip
    FileExtension.add_to(item)
    # MLM requires an asset of the model, also if it is not published.
    item.assets["checkpoint"] = pystac.Asset(
        weights or _hash_name(model.sha256), "Checkpoint" if weights else _WITHHELD,
        media_type="application/octet-stream; application=pytorch", roles=["mlm:model", "mlm:weights"],
        extra_fields={
            "bands": described,  # STAC 1.1 requires them also here
            "mlm:artifact_type": "torch.save",
            "file:size": model.path.stat().st_size,
            "file:checksum": multihash(model.sha256),
        },
    )  # fmt: skip
    if card:
        item.assets["card"] = pystac.Asset(card, "Model card", media_type="text/markdown", roles=["metadata"])
    return item.to_dict(transform_hrefs=False)


def _hash_name(sha256: str) -> str:
    """The URI of a content by its SHA-256 (hex), without a location (RFC 6920)."""
    return f"ni:///sha-256;{base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip('=')}"


def _tensor(shape: list[int], channels: str) -> dict[str, Any]:
    return {"shape": shape, "dim_order": ["batch", channels, "height", "width"], "data_type": "float32"}
