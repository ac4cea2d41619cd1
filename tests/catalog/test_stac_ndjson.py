"""The catalog for STAC APIs: absolute hrefs, and all of it in a PgSTAC database by `pypgstac load`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pystac_client import Client

from darts_assets.catalog.detections import update_detections
from darts_assets.catalog.stac_ndjson import write_ndjson
from darts_assets.catalog.stac_tree import update_stac
from darts_assets.cli import cli
from darts_assets.errors import NotReadableError
from darts_assets.stores.location import StoreLocation
from tests.servers.stac_api.server import StacApi

from .conftest import YAMAL
from .test_inventory_items import SCENES, publish_slumps, publish_year
from .test_stac_tree import Checkpoint


@pytest.fixture
def published(root: StoreLocation, put: Callable[..., int], tmp_path: Path) -> StoreLocation:
    put("scene-a", has_tiles=True)
    put("scene-b", YAMAL, when="2021-08-01T07:00:00+00:00")
    publish_year(root, SCENES)
    publish_slumps(root, SCENES)
    checkpoint = tmp_path / "demo.ckpt"
    checkpoint.write_bytes(b"weights")
    update_stac(root, ["sentinel2", "planet"], [Checkpoint(checkpoint)], licence="CC-BY-4.0")
    update_detections(root, ["sentinel2", "planet"], licence="CC-BY-4.0")
    return root


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_hrefs_are_absolute(published: StoreLocation, tmp_path: Path) -> None:
    counts = write_ndjson(published, tmp_path / "out", str(published.path))
    assert counts == {"sentinel2": 2, "models": 1, "detections": 0, "inventory": 2}
    items, collections = lines(tmp_path / "out" / "items.ndjson"), lines(tmp_path / "out" / "collections.ndjson")
    assert [each["id"] for each in collections] == list(counts)
    for each in [*items, *collections]:
        for asset in each.get("assets", {}).values():
            assert Path(asset["href"]).exists() or "segmentation" in asset["href"]
            assert ".." not in asset["href"]
    assert not {"item", "self", "root", "parent"} & {link["rel"] for each in collections for link in each["links"]}
    assert not any("darts:state" in each for each in collections)
    write_ndjson(published, tmp_path / "out", "https://files.example.org/store/")
    (model,) = [item for item in lines(tmp_path / "out" / "items.ndjson") if item["collection"] == "models"]
    href = "https://files.example.org/store/catalog/stac/models/demo-abababababababab.ckpt"
    assert model["assets"]["checkpoint"]["href"] == href


def test_a_store_without_a_catalog(root: StoreLocation, tmp_path: Path) -> None:
    with pytest.raises(NotReadableError, match="no catalog; materialize catalog/stac first"):
        write_ndjson(root, tmp_path, "https://files.example.org")


def test_a_stac_api_has_the_catalog(
    published: StoreLocation, tmp_path: Path, stac_api: StacApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of the README."""
    monkeypatch.setenv("DARTS_STORE", str(published.path))
    done = CliRunner().invoke(cli, ["stac-ndjson", str(tmp_path / "out"), "--url", "https://files.example.org"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[0] == "sentinel2: 2 items"
    for kind in ("collections", "items"):
        subprocess.run(
            [Path(sys.executable).with_name("pypgstac"), "load", kind, tmp_path / "out" / f"{kind}.ndjson",
             "--method", "upsert", "--dsn", stac_api.dsn],
            check=True, capture_output=True,
        )  # fmt: skip
    client = Client.open(stac_api.url)
    assert {each.id for each in client.get_collections()} >= {"sentinel2", "models", "inventory", "detections"}
    search = client.search(collections=["sentinel2"], bbox=(-140, 60, -130, 72), datetime="2023")
    (item,) = search.items()
    assert item.id == "scene-a"
    assert item.assets["probabilities"].href.startswith("https://files.example.org/products/sentinel2/scene-a/")
    assert item.assets["binarized"].extra_fields["classification:classes"][1]["name"] == "thaw_slump"
    (year,) = client.search(collections=["inventory"], ids=["rts_2023"]).items()
    assert year.assets["sites"].extra_fields["file:size"] > 0
