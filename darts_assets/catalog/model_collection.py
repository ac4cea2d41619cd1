"""Segmentation models as STAC items with the MLM extension (Machine Learning Model), and their collection.

Models lie in `catalog/stac/models` with their checkpoints, named by checkpoint hash. A published model is not changed.
"""

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pystac
from pystac.extensions.classification import Classification
from pystac.extensions.mlm import Hyperparameters, MLMExtension, ModelInput, ModelOutput, ResultStructure, TaskType

from darts_assets.bands import band
from darts_assets.catalog.catalog_store import Tree, digest, model_id
from darts_assets.catalog.scene_item import link
from darts_assets.catalog.stac_collections import WORLD, models_collection

_FOLDER = "stac/models"
_COLLECTION = f"{_FOLDER}/collection.json"


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
    def sha256(self) -> str: ...  # noqa: D102


class ModelCollection:
    """The published models and those that can be published.

    Args:
        tree: the catalog.
        models: models with a local checkpoint.
        licence: SPDX identifier, or `other`.
        rebuild: publish models again when they are next used.
    """

    def __init__(self, tree: Tree, models: Sequence[Model], *, licence: str, rebuild: bool = False) -> None:
        tree.remove_unfinished(_FOLDER)
        self._document = tree.document(_COLLECTION)
        links = (self._document or {}).get("links", [])
        hrefs = [link["href"] for link in links if link["rel"] == "item"]
        self._published = {href.removeprefix("./").removesuffix(".json") for href in hrefs}
        self._local = {model_id(model.name, model.sha256): model for model in models}
        self._current = self._published - self._local.keys() if rebuild else set(self._published)
        self._tree, self._licence = tree, licence

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
            with self._tree.file_for(_FOLDER, weights) as path:
                shutil.copyfile(model.path, path)
            self._tree.write(f"{_FOLDER}/{name}.json", model_item(model, f"./{weights}"))
        self._published |= set(missing)
        self._current |= set(missing)
        if self._published and (document := models_collection(self._published, self._licence)) != self._document:
            self._tree.write(_COLLECTION, document)
            self._document = document


def model_item(model: Model, weights: str) -> dict[str, Any]:
    """The STAC item of a model, for `catalog/stac/models/`.

    Args:
        model: header of the checkpoint.
        weights: path of the checkpoint relative to the item.
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
    item.assets["checkpoint"] = pystac.Asset(
        weights, "Checkpoint", media_type="application/octet-stream; application=pytorch",
        roles=["mlm:model", "mlm:weights"],
        extra_fields={"bands": described, "mlm:artifact_type": "torch.save"},  # STAC 1.1 requires bands also here
    )  # fmt: skip
    return item.to_dict(transform_hrefs=False)


def _tensor(shape: list[int], channels: str) -> dict[str, Any]:
    return {"shape": shape, "dim_order": ["batch", channels, "height", "width"], "data_type": "float32"}
