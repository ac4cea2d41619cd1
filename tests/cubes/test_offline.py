"""Offline, exactly the missing chunks are named and no socket is opened.

The code runs in a process that dies when it opens one (see `no_sockets`).
"""

import json
import platform
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from odc.geo.geobox import GeoBox

from darts_assets.cubes import ChunkData, Cube, ensure
from tests.servers.network.no_sockets import NO_SOCKETS

FILLING = """
import json
from darts_assets.cubes import ArcticDemTiles, Cube, arcticdem_spec, ensure
from darts_assets.errors import MissingChunksError
from darts_assets.orchestration.auxiliary.resource import AuxiliaryCubes
from darts_assets.orchestration.core.resources import SourceAccess, Store

root, source, offline, *keys = sys.argv[1:]
aux = AuxiliaryCubes(
    store=Store(url=root), access=SourceAccess(), layers=["arcticdem"], arcticdem=source, offline=offline == "offline"
)
cube = aux.arcticdem_cube(10)
errors = []
for fill in (
    lambda: aux.fill("arcticdem", cube, keys, "a run"),
    lambda: ensure(cube, keys, ArcticDemTiles(source).read_chunk, message="a run", offline=aux.offline),
):
    try:
        fill()
    except MissingChunksError as error:
        errors.append([error.cube, error.chunks, str(error)])
window = cube.window(cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(keys[0])))
print(json.dumps({"errors": errors, "highest": float(window.dem.max())}))
"""

OUTSIDE = "https://stac.example.org/arcticdem/catalog.json"


def run(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", NO_SOCKETS + code, *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def keys(cube: Cube, read_surface: Callable[[GeoBox], ChunkData]) -> list[str]:
    """Five chunks of the store's cube, of which the fourth is missing."""
    keys = [cube.spec.grid.key(100, col) for col in range(200, 205)]
    ensure(cube, [*keys[:3], *keys[4:]], read_surface, message="with a network")
    return keys


@pytest.mark.slow
def test_offline_the_missing_chunk_is_named_and_no_socket_is_opened(cube: Cube, keys: list[str]) -> None:
    root = str(cube.location.path.parents[1])
    done = run(FILLING, root, OUTSIDE, "offline", *keys)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    (name, chunks, advice), (same_name, same_chunks, _) = said["errors"]
    assert (name, chunks) == (same_name, same_chunks) == ("arcticdem_10m", [keys[3]])
    assert advice.startswith(f"arcticdem_10m: 1 chunk(s) are missing: {keys[3]}.")
    command = advice.partition("with a network, this fetches them: ")[2]
    assert "dagster job execute -m darts_assets -j prepare_auxiliary" in command
    assert f'"chunks": ["{keys[3]}"]' in command
    assert not any(key in advice for key in keys if key != keys[3])
    assert 200 < said["highest"] < 700  # what is there is read


@pytest.mark.slow
def test_what_is_filled_needs_no_network_even_online(cube: Cube, keys: list[str]) -> None:
    done = run(FILLING, str(cube.location.path.parents[1]), OUTSIDE, "online", *keys[:3])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["errors"] == []


@pytest.mark.slow
def test_online_the_same_code_opens_a_socket(cube: Cube, keys: list[str]) -> None:
    done = run(FILLING, str(cube.location.path.parents[1]), OUTSIDE, "online", *keys)
    assert done.returncode == 99
    assert "socket." in done.stderr


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="seccomp is Linux's"
)
@pytest.mark.parametrize(
    "code",
    [
        "import rasterio; rasterio.open('/vsicurl/http://127.0.0.1:9/tile.tif')",
        "from darts_assets.stores.location import StoreLocation;"
        "list(StoreLocation('s3://bucket/x', endpoint='http://127.0.0.1:9').keys())",
    ],
    ids=["GDAL", "obstore"],
)
def test_a_socket_of_a_library_is_noticed(code: str) -> None:
    assert run(code).returncode == -signal.SIGSYS
