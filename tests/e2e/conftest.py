"""Sites with a Dagster instance and a store on disk, over the files of a small demo world."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from darts_assets.demo import World, build_world
from darts_assets.settings import Settings
from tests.e2e.harness import DEMO_MODEL, Site


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two scenes of 300 x 300 px: a clear one, and one with clouds and a nodata wedge."""
    return build_world(tmp_path_factory.mktemp("world") / "world", seed=7, scenes=2, size=300)


@pytest.fixture
def new_site(tmp_path: Path, world: World, empty_home: Path) -> Iterator[Callable[..., Site]]:
    """Creates sites, each with its own instance and store."""
    instances = []

    def make(name: str = "site", **settings: Any) -> Site:
        folder = tmp_path / name
        home = folder / "dagster"
        shutil.copytree(empty_home, home)
        instances.append(instance := dg.DagsterInstance.from_config(str(home)))
        sources = {"arcticdem": str(world.arcticdem), "tcvis": world.tcvis, "models": (DEMO_MODEL,)}
        return Site(folder, Settings(**{"store": str(folder / "store"), **sources, **settings}), instance)

    yield make
    for instance in instances:
        instance.dispose()


@pytest.fixture
def site(new_site: Callable[..., Site]) -> Site:
    return new_site()


@pytest.fixture
def copied_item(world: World, tmp_path: Path) -> Callable[..., Path]:
    """Copies the item and files of the clear scene, so that a test can damage them."""

    def copy(scene_id: str | None = None, index: int = 0) -> Path:
        source = world.items[index]
        target = tmp_path / "items" / (scene_id or source.stem)
        shutil.copytree(source.parent, target)
        item = json.loads((target / source.name).read_text())
        item["id"] = scene_id or item["id"]
        for asset in item["assets"].values():  # damaged files must be found by reading them
            asset.pop("file:size", None)
            asset.pop("file:checksum", None)
        path = target / f"{item['id']}.json"
        path.write_text(json.dumps(item))
        return path

    return copy
