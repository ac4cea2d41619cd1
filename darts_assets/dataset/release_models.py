"""Cards of the models of a release: their STAC items, and the same facts to be read."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from darts_assets.catalog.catalog_store import Tree, model_id
from darts_assets.errors import NotReadableError
from darts_assets.stores.location import StoreLocation


def models_of(values: Iterable[str]) -> list[str]:
    """Ids of the models in the column `models` of Level 1, whose values are `NAME=HASH`, separated by commas."""
    pairs = {pair for value in set(values) for pair in value.split(",") if pair}
    return sorted(model_id(*pair.rsplit("=", 1)) for pair in pairs)


def model_cards(root: StoreLocation, models: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The STAC items of models, by id.

    Raises:
        NotReadableError: if the catalog does not have one.
    """
    tree = Tree(root.child("catalog"))
    cards = {}
    for name in models:
        item = tree.document(f"stac/models/{name}.json")
        if item is None:
            raise NotReadableError(f"{root}/catalog/stac/models has no {name}.json: materialize catalog/stac")
        # Links lead to the catalog, which is not a part of the release.
        cards[name] = {**item, "links": []}
    return cards


def card_text(card: Mapping[str, Any]) -> str:
    """A model card as Markdown."""
    properties, weights = card["properties"], card["assets"].get("checkpoint", {})
    rows = {
        "Architecture": properties.get("mlm:architecture", ""),
        "Framework": properties.get("mlm:framework", ""),
        "Task": ", ".join(properties.get("mlm:tasks", [])),
        "SHA-256 of the checkpoint": properties.get("darts:sha256", ""),
        "Size of the checkpoint": f"{weights['file:size']:,} bytes" if "file:size" in weights else "",
        "Terrain convention": properties.get("darts:terrain", ""),
        "Temperature of the calibration": properties.get("darts:temperature", ""),
    }
    facts = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value != "")
    bands = "\n".join(f"| `{each['name']}` | {each.get('description', '')} |" for each in properties.get("bands", []))
    hyper = json.dumps(properties.get("mlm:hyperparameters", {}), sort_keys=True)
    return (
        f"# {card['id']}\n\n{properties.get('title', '')}\n\n| | |\n|---|---|\n{facts}\n\n"
        f"Hyperparameters: `{hyper}`\n\n## Input\n\n| band | meaning |\n|---|---|\n{bands}\n\n"
        "The output is the probability of a thaw slump for each pixel.\n"
    )
