"""Chunks of TCVIS from a local Earth Engine, through the real client library, equal the server's pixels."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import ee
import numpy as np
import pytest

from darts_assets.bands import TCVIS
from darts_assets.cubes import Cube, EarthEngineTcvis, ensure, tcvis_spec
from darts_assets.cubes.tcvis import PROVIDER_NAMES
from darts_assets.earth_engine import EarthEngineOptions
from darts_assets.errors import CubeError
from darts_assets.remote import retry
from darts_assets.stores.location import StoreLocation
from tests.servers.earth_engine.server import TOO_MANY, EarthEngineServer, Fault, serving
from tests.servers.earth_engine.world import ANTIMERIDIAN, EMPTY, FULL, GRID, PARTLY, expected, world

pytestmark = pytest.mark.slow

COLLECTION = "users/ingmarnitze/TCTrend_SR_2000-{}_TCVIS"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def service() -> Iterator[EarthEngineServer]:
    with serving(world()) as server:
        yield server
    ee.Reset()


@pytest.fixture(scope="module")
def tcvis(service: EarthEngineServer, tmp_path_factory: pytest.TempPathFactory) -> EarthEngineTcvis:
    """One session for the module: initializing the client library takes longer than a test."""
    key = tmp_path_factory.mktemp("earth_engine") / "key.json"
    key.write_text(json.dumps(service.key()))
    return EarthEngineTcvis(EarthEngineOptions(url=service.url, key_file=str(key)))


@pytest.fixture
def server(service: EarthEngineServer) -> EarthEngineServer:
    service.forget()
    return service


def wanted(vintage: int, chunk: tuple[int, int]) -> dict[str, np.ndarray]:
    values = expected(vintage, GRID.chunk_geobox(*chunk))
    return {name: values[provider] for name, provider in zip(TCVIS, PROVIDER_NAMES, strict=True)}


@pytest.mark.parametrize(
    ("chunk", "filled", "requests"),
    [(FULL, (1, 1), 1), (PARTLY, (0.7, 0.9), 1), (EMPTY, (0, 0), 1), (ANTIMERIDIAN, (1, 1), 2)],
    ids=["full", "partly", "empty", "antimeridian"],
)
def test_a_chunk_is_what_earth_engine_has(
    server: EarthEngineServer,
    tcvis: EarthEngineTcvis,
    chunk: tuple[int, int],
    filled: tuple[float, float],
    requests: int,
) -> None:
    data = tcvis.read_chunk(2024, GRID.chunk_geobox(*chunk))
    assert list(data.values) == list(TCVIS)
    for name, values in wanted(2024, chunk).items():
        assert data.values[name].dtype == np.uint8
        np.testing.assert_array_equal(data.values[name], values)
    low, high = filled
    assert low <= data.fill_fraction <= high
    assert data.fill_fraction == pytest.approx(np.mean(wanted(2024, chunk)["tc_wetness"] != 0))
    assert data.sources == ((COLLECTION.format(2024),) if high else ())
    assert server.requests.count("computePixels") == requests


def test_each_vintage_has_its_own_collection(tcvis: EarthEngineTcvis) -> None:
    for vintage in (2020, 2024):
        data = tcvis.read_chunk(vintage, GRID.chunk_geobox(*FULL))
        np.testing.assert_array_equal(data.values["tc_greenness"], wanted(vintage, FULL)["tc_greenness"])
        assert data.sources == (COLLECTION.format(vintage),)


def test_a_cube_is_filled_by_several_threads(
    server: EarthEngineServer, tcvis: EarthEngineTcvis, tmp_path: Path
) -> None:
    cube = Cube(StoreLocation(str(tmp_path / "tcvis_2024.icechunk")), tcvis_spec(2024))
    chunks = [FULL, PARTLY, EMPTY, (81, 500)]
    keys = [GRID.key(*chunk) for chunk in chunks]
    # Answers come only once two requests are there.
    server.fail(*[Fault(wait=threading.Barrier(2, timeout=30).wait)] * len(chunks))

    filled = ensure(cube, keys, lambda geobox: tcvis.read_chunk(2024, geobox), message="test", workers=4)

    assert [chunk.key for chunk in filled] == keys
    assert 2 <= server.requests.most_at_once <= 4
    for chunk in chunks:
        window = cube.window(GRID.chunk_geobox(*chunk))
        for name, values in wanted(2024, chunk).items():
            np.testing.assert_array_equal(window[name].values, values)
    assert server.requests.count("computePixels") == len(chunks)
    assert ensure(cube, keys, lambda geobox: tcvis.read_chunk(2024, geobox), message="test") == []
    assert server.requests.count("computePixels") == len(chunks)


def test_an_exceeded_quota_is_waited_for(server: EarthEngineServer, tcvis: EarthEngineTcvis) -> None:
    server.fail(TOO_MANY, TOO_MANY, TOO_MANY)
    data = tcvis.read_chunk(2024, GRID.chunk_geobox(*FULL))
    np.testing.assert_array_equal(data.values["tc_wetness"], wanted(2024, FULL)["tc_wetness"])
    assert server.requests.count("computePixels") == 4


@pytest.mark.parametrize(
    ("vintage", "words"),
    [(2019, "not found \\(does not exist or caller does not have access\\)"), (2022, "did not match any bands")],
    ids=["absent", "without images"],
)
def test_a_collection_with_nothing_in_it_is_named(
    server: EarthEngineServer, tcvis: EarthEngineTcvis, vintage: int, words: str
) -> None:
    with pytest.raises(CubeError, match=rf"vintage {vintage} .*{COLLECTION.format(vintage)}: .*{words}"):
        tcvis.read_chunk(vintage, GRID.chunk_geobox(*FULL))
    assert server.requests.count("computePixels") == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda array: array[:-1], r"\(1023, 1024\), expected \(1024, 1024\)"),
        (lambda array: array["TCB_slope"], "is uint8 .* with one field per band"),
        (lambda array: array[["TCB_slope", "TCW_slope"]], "the bands TCB_slope uint8, TCW_slope uint8, expected TCB_"),
        (lambda array: array.astype([(name, "int16") for name in PROVIDER_NAMES]), "TCB_slope int16, .* of uint8"),
    ],
    ids=["short", "no bands", "a band less", "another dtype"],
)
def test_another_answer_than_expected_is_refused(
    server: EarthEngineServer, tcvis: EarthEngineTcvis, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    server.fail(Fault(change=change))
    with pytest.raises(CubeError, match=rf"vintage 2024.*{COLLECTION.format(2024)}.*{words}"):
        tcvis.read_chunk(2024, GRID.chunk_geobox(*FULL))
    assert server.requests.count("computePixels") == 1


def test_what_is_no_array_is_refused(server: EarthEngineServer, tcvis: EarthEngineTcvis) -> None:
    for body in (b"<html>Sign in</html>", b""):
        server.fail(Fault(body=body))
        with pytest.raises(CubeError, match=f"{COLLECTION.format(2024)} is not a NumPy file"):
            tcvis.read_chunk(2024, GRID.chunk_geobox(*FULL))
