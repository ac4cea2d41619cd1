import pytest

from darts_assets.demo import World, build_world


@pytest.fixture(scope="session")
def parameters() -> dict[str, int]:
    """Those of `world`: scenes of 2.8 km."""
    return {"seed": 3, "scenes": 3, "size": 280, "slumps": 3}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, parameters: dict[str, int]) -> World:
    """A small world, complete with clouds and a nodata wedge."""
    return build_world(tmp_path_factory.mktemp("demo") / "world", **parameters)
