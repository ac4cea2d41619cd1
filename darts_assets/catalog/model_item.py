"""A segmentation model as a STAC item, with the extension MLM (Machine Learning Model)."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from darts_assets.bands import band
from darts_assets.catalog.vocabulary import MLM, STAC_VERSION, digest, link


class Model(Protocol):
    """What is told of a model; `darts_assets.model.CheckpointHeader` is one."""

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


def model_id(name: str, sha256: str) -> str:
    """Id of a model's item."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}-{sha256[:16]}"


def model_item(model: Model, weights: str) -> dict[str, Any]:
    """The item of a model, for `catalog/stac/models/`.

    Args:
        model: what its checkpoint says.
        weights: where its checkpoint is, relative to the item.
    """
    # MLM names that are shorter, or begin otherwise, are not allowed.
    allowed = re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", model.name)
    bands = [band(name) for name in model.bands]
    pixels = {"dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"}
    described = [{"name": each.name, "description": each.long_name, "data_type": "float32"} for each in bands]
    result = {"dim_order": ["batch", "channel", "height", "width"], "data_type": "float32"}
    architecture = model.architecture
    properties: dict[str, Any] = {
        "datetime": None,  # models are for scenes of any time
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "title": f"Thaw slump segmentation {model.name}",
        "bands": described,
        "mlm:name": model.name if allowed else f"model-{digest({'name': model.name})}",
        "mlm:architecture": " ".join(filter(None, (architecture["arch"], architecture.get("encoder_name")))),
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "PyTorch",
        "mlm:input": [
            {
                "name": "features",
                "bands": [each.name for each in bands],
                "input": {"shape": [-1, len(bands), -1, -1], **pixels},
                "value_scaling": [
                    {"type": "min-max", "minimum": each.valid[0], "maximum": each.valid[1]} for each in bands
                ],
            }
        ],
        "mlm:output": [
            {
                "name": "probabilities",
                "tasks": ["semantic-segmentation"],
                "result": {"shape": [-1, 1, -1, -1], **result},
                "classification:classes": [
                    {"value": 1, "name": "thaw-slump", "description": "Retrogressive thaw slump"}
                ],
            }
        ],
        "mlm:hyperparameters": {
            name: value for name, value in architecture.items() if re.fullmatch(r"[0-9a-zA-Z_.-]+", name)
        },
        "darts:sha256": model.sha256,
        **({"darts:terrain": model.terrain} if model.terrain else {}),
    }
    world = [[-180.0, -90.0], [180.0, -90.0], [180.0, 90.0], [-180.0, 90.0], [-180.0, -90.0]]
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [MLM],
        "id": model_id(model.name, model.sha256),
        "collection": "models",
        "geometry": {"type": "Polygon", "coordinates": [world]},
        "bbox": [-180.0, -90.0, 180.0, 90.0],
        "properties": properties,
        "links": [
            link("root", "../../catalog.json"),
            link("parent", "collection.json"),
            link("collection", "collection.json"),
        ],
        "assets": {
            "checkpoint": {
                "href": weights,
                "type": "application/octet-stream; application=pytorch",
                "title": "Checkpoint",
                "bands": described,  # STAC wants them here if they stand in the properties, MLM wants them there
                "roles": ["mlm:model", "mlm:weights"],
                "mlm:artifact_type": "torch.save",
            }
        },
    }
