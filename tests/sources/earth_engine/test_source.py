"""Pixels of scenes from a local Earth Engine, through the real client library, equal the server's."""

import datetime as dt
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.earth_engine import EarthEngineOptions
from darts_assets.errors import SceneError, SettingsError, SourceUnavailableError
from darts_assets.remote import retry
from darts_assets.sources import ANY_SCENES, S2_QUALITY, SourceOptions, read_item
from darts_assets.sources.earth_engine.catalog import EarthEngineCatalog
from darts_assets.sources.earth_engine.items import BANDS
from darts_assets.sources.earth_engine.source import EarthEngineScenes
from darts_assets.sources.stac.scene_selection import Selection
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.tiles import read_tile, write_tile
from tests.servers.earth_engine.scenes import HARMONIZED, ORIGINAL, OUTSIDE, Scene, collections
from tests.servers.earth_engine.server import TOO_MANY, EarthEngineServer, Fault, connected

SHAPE = (600, 1500)
BEFORE = Scene(dt.datetime(2021, 7, 1, 20, 8, 51, tzinfo=dt.UTC), baseline="03.00", shape=SHAPE)
AFTER = Scene(dt.datetime(2023, 7, 1, 20, 18, 49, tzinfo=dt.UTC), baseline="05.09", shape=SHAPE)
FULL = Scene(dt.datetime(2024, 7, 1, 20, 8, 51, tzinfo=dt.UTC))
MOST_BYTES = 16 * 2**20
NEEDED = (*VISIBLE_NIR, "s2_scl")

Find = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EarthEngineServer, EarthEngineOptions]]:
    with connected(collections(BEFORE, AFTER, FULL), tmp_path_factory.mktemp("earth_engine")) as (server, options):
        yield server, options


@pytest.fixture
def server(service: tuple[EarthEngineServer, EarthEngineOptions]) -> EarthEngineServer:
    service[0].forget()
    return service[0]


@pytest.fixture
def options(server: EarthEngineServer, service: tuple[EarthEngineServer, EarthEngineOptions]) -> EarthEngineOptions:
    return service[1]


@pytest.fixture(scope="module")
def find(service: tuple[EarthEngineServer, EarthEngineOptions]) -> Find:
    """The item of a scene in a collection, found once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def item(scene: Scene, collection: str = HARMONIZED) -> dict[str, Any]:
        if (scene.index, collection) not in found:
            catalog = EarthEngineCatalog(service[1], collection)
            (found[scene.index, collection],) = catalog.search(Selection(scene_ids=[scene.index]))
        return json.loads(json.dumps(found[scene.index, collection]))

    return item


SCENES = EarthEngineScenes()


def sizes(server: EarthEngineServer, bytes_of_a_pixel: int) -> list[int]:
    dimensions = [request["grid"]["dimensions"] for request in server.requests.pixels]
    return [size["width"] * size["height"] * bytes_of_a_pixel for size in dimensions]


@pytest.mark.parametrize("collection", [HARMONIZED, ORIGINAL])
@pytest.mark.parametrize("made", [BEFORE, AFTER], ids=["before 2022", "after"])
def test_digital_numbers_are_those_of_the_image(
    server: EarthEngineServer, options: EarthEngineOptions, find: Find, made: Scene, collection: str
) -> None:
    scene = SCENES.parse(find(made, collection))
    raw = SCENES.fetch(scene, [*OPTICAL, "s2_scl"], options).collect()
    assert list(raw.data_vars) == [*OPTICAL, "s2_scl"]
    for name, band in BANDS.items():
        assert raw[name].dtype == ("uint8" if name == "s2_scl" else "uint16")
        np.testing.assert_array_equal(raw[name].values, made.expected(collection, band), err_msg=name)
    assert raw.odc.geobox == SCENES.grid(scene, options)
    assert raw.odc.geobox.shape == SHAPE
    assert (raw.odc.geobox.crs.epsg, raw.odc.geobox.affine[:6]) == (32608, (10, 0, 499980, 0, -10, 7500000))
    # Rows 0 to 511 in two parts, and the last 88 in one.
    assert sizes(server, 25) == [512 * 750 * 25, 512 * 750 * 25, 88 * 1500 * 25]


def test_reflectance_is_that_of_the_scene_whatever_the_collection(options: EarthEngineOptions, find: Find) -> None:
    calibrated = {}
    for made in (BEFORE, AFTER):
        for collection in (HARMONIZED, ORIGINAL):
            raw = SCENES.open_raw(SCENES.parse(find(made, collection)), NEEDED, options)
            calibrated[collection] = SCENES.calibrate(raw, {}).compute()
        xr.testing.assert_allclose(calibrated[HARMONIZED], calibrated[ORIGINAL], rtol=0, atol=1e-7)
        numbers = made.expected(HARMONIZED, "B4")
        red = calibrated[HARMONIZED]["red"].values
        np.testing.assert_allclose(red[np.isfinite(red)], numbers[np.isfinite(red)] * 1e-4, atol=1e-7)


def test_pixels_that_are_masked_in_a_band_are_invalid_in_all(options: EarthEngineOptions, find: Find) -> None:
    raw = SCENES.open_raw(SCENES.parse(find(AFTER)), NEEDED, options)
    calibrated = SCENES.calibrate(raw, {}).compute()
    masked = np.zeros(SHAPE, bool)
    for band in ("B2", "B3", "B4", "B8"):
        masked |= AFTER.expected(HARMONIZED, band) == 0
    assert masked[:, :OUTSIDE].all()
    assert 0.01 < masked[:, OUTSIDE:].mean() < 0.03  # here and there
    for name in VISIBLE_NIR:
        np.testing.assert_array_equal(np.isnan(calibrated[name].values), masked)
    classes = AFTER.expected(HARMONIZED, "SCL")
    quality = np.vectorize(S2_QUALITY.get)(classes)
    np.testing.assert_array_equal(calibrated["quality_data_mask"].values, np.where(masked, 0, quality))
    with pytest.raises(SettingsError, match="expected classes of 0, 1, 2"):
        SCENES.calibrate(raw, {12: 1})


def test_what_is_fetched_says_what_it_is(options: EarthEngineOptions, find: Find) -> None:
    stream = SCENES.fetch(SCENES.parse(find(AFTER, ORIGINAL)), ["red", "s2_scl"], options)
    window = next(stream.windows)
    assert window.attrs == stream.attrs == {
        "scene_id": "20230701T201849_20230701T201849_T08WNB",
        "source": "earth_engine",
        "datetime": "2023-07-01T20:22:49.026000+00:00",
        "sun_azimuth": 172.5,
        "sun_elevation": 39.75,
        "tile": "08WNB",
        "processing_baseline": "05.09",
    }  # fmt: skip
    told = {key: window["red"].attrs[key] for key in ("scale_factor", "add_offset", "_FillValue")}
    assert told == {"scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": 0}
    assert "scale_factor" not in window["s2_scl"].attrs


def test_a_lazy_scene_is_read_chunk_by_chunk_and_once(
    server: EarthEngineServer, options: EarthEngineOptions, find: Find
) -> None:
    scene = SCENES.parse(find(BEFORE))
    raw = SCENES.open_raw(scene, NEEDED, options)
    assert server.requests.pixels == []
    whole = raw.compute()
    for name in NEEDED:
        np.testing.assert_array_equal(whole[name].values, BEFORE.expected(HARMONIZED, BANDS[name]))
        assert whole[name].dtype == raw[name].dtype
    assert len(server.requests.pixels) == 2 * len(NEEDED)
    assert server.requests.most_at_once <= 4
    server.forget()
    rows = raw["s2_scl"].isel(y=slice(20, 30)).compute()
    np.testing.assert_array_equal(rows.values, BEFORE.expected(HARMONIZED, "SCL")[20:30])
    assert sizes(server, 1) == [512 * 1500]


def test_a_full_scene_is_fetched_window_by_window_in_requests_of_bounded_size(
    server: EarthEngineServer, options: EarthEngineOptions, find: Find
) -> None:
    # Answers come only once four requests are there.
    server.fail(*[Fault(wait=threading.Barrier(4, timeout=60).wait)] * 4)
    windows = SCENES.fetch(SCENES.parse(find(FULL)), NEEDED, options).windows
    assert server.requests.pixels == []
    first = next(windows)
    assert dict(first.sizes) == {"y": 512, "x": 10980}
    assert sizes(server, 9) == [512 * 2745 * 9] * 4  # and nothing of the next window
    assert max(sizes(server, 9)) <= MOST_BYTES
    assert server.requests.most_at_once == 4
    for name, rows in (("nir", slice(0, 512)), ("s2_scl", slice(0, 512))):
        order = np.mgrid[rows, :10980] if name == "nir" else np.mgrid[rows, :10980] // 2
        values, mask = FULL.numbers(HARMONIZED, BANDS[name], *order)
        expected = np.where(mask, values, 0)
        expected[:, :OUTSIDE] = 0
        np.testing.assert_array_equal(first[name].values, expected)


@pytest.mark.parametrize(
    "fault",
    [Fault(cut=True), TOO_MANY, Fault(503, body=b"<html>upstream connect error</html>")],
    ids=["cut", "429", "503"],
)
def test_a_request_in_the_middle_that_fails_is_sent_again(
    server: EarthEngineServer, options: EarthEngineOptions, find: Find, fault: Fault
) -> None:
    windows = SCENES.fetch(SCENES.parse(find(AFTER)), ["red", "s2_scl"], options).windows
    first = next(windows)
    server.fail(fault, fault)
    (second,) = windows
    assert len(server.requests.pixels) + (0 if fault.cut else 2) == 4
    for name in ("red", "s2_scl"):
        whole = np.concatenate([first[name].values, second[name].values])
        np.testing.assert_array_equal(whole, AFTER.expected(HARMONIZED, BANDS[name]))


def test_a_quota_that_stays_exceeded_ends_the_fetch(
    server: EarthEngineServer, options: EarthEngineOptions, find: Find
) -> None:
    scene = SCENES.parse(find(AFTER))
    windows = SCENES.fetch(scene, NEEDED, options).windows
    next(windows)
    server.fail(TOO_MANY, always=True)
    with pytest.raises(SourceUnavailableError) as raised:
        next(windows)
    assert f"scene {scene.id}: Quota exceeded for quota metric" in str(raised.value)
    assert "given up after 8 attempts" in str(raised.value)
    assert len(server.requests.calls) == 1 + 8


def test_a_scene_that_is_not_there_any_more(options: EarthEngineOptions, find: Find) -> None:
    item = json.loads(json.dumps(find(AFTER)).replace("20230701T201849_", "20230702T201849_"))
    scene = SCENES.parse(item)
    with pytest.raises(
        SceneError, match=rf"scene {scene.id} cannot be read: .* asset '{HARMONIZED}/{scene.id}' not fo"
    ):
        next(SCENES.fetch(scene, NEEDED, options).windows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda array: array[["B2", "B3"]], "returned B2 uint16, B3 uint16; B2, B3, B4, B8, SCL of unsigned integers"),
        (lambda array: array.astype([(name, "f4") for name in array.dtype.names]), "B4 float32"),
        (lambda array: array[1:], r"\(511, 1500\), expected \(512, 1500\)"),
    ],
    ids=["a band less", "another dtype", "short"],
)
def test_another_answer_than_expected_is_refused(
    server: EarthEngineServer,
    options: EarthEngineOptions,
    find: Find,
    change: Callable[[np.ndarray], np.ndarray],
    words: str,
) -> None:
    server.fail(Fault(change=change))
    scene = SCENES.parse(find(AFTER))
    with pytest.raises(SceneError, match=rf"scene {scene.id}.*{words}"):
        next(SCENES.fetch(scene, NEEDED, options).windows)


def test_a_wider_dtype_of_the_answer_does_no_harm(
    server: EarthEngineServer, options: EarthEngineOptions, find: Find
) -> None:
    server.fail(Fault(change=lambda array: array.astype([(name, "u2") for name in array.dtype.names])))
    window = next(SCENES.fetch(SCENES.parse(find(AFTER)), ["red", "s2_scl"], options).windows)
    assert window["s2_scl"].dtype == np.uint8
    np.testing.assert_array_equal(window["s2_scl"].values, AFTER.expected(HARMONIZED, "SCL")[:512])


def test_bands_that_a_scene_lacks_are_named(options: EarthEngineOptions, find: Find) -> None:
    item = find(AFTER)
    del item["assets"]["B9"]
    scene = SCENES.parse(item)
    for read in (SCENES.fetch, SCENES.open_raw):
        with pytest.raises(SceneError, match=rf"scene {scene.id} has no band nir09"):
            read(scene, ["red", "nir09"], options)


def damage_place(item: dict[str, Any]) -> None:
    item["assets"]["B4"]["href"] = "ee://COPERNICUS/S2_SR/elsewhere"


def damage_scheme(item: dict[str, Any]) -> None:
    for asset in item["assets"].values():
        asset["href"] = "https://example.org/red.tif"


def damage_grid(item: dict[str, Any]) -> None:
    del item["properties"]["proj:shape"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_place, r"its bands are at ee://.*elsewhere, ee://.*; one ee:// was expected"),
        (damage_scheme, r"its bands are at https://example.org/red.tif; one ee:// was expected"),
        (damage_grid, "proj:shape and proj:transform of one grid for all bands were expected"),
    ],
)
def test_other_items_are_refused(find: Find, damage: Callable[[dict[str, Any]], None], words: str) -> None:
    item = find(AFTER)
    damage(item)
    with pytest.raises(SceneError, match=rf"scene {AFTER.index}: {words}"):
        SCENES.parse(item)


def test_a_registered_item_leads_to_its_pixels(options: EarthEngineOptions, find: Find, tmp_path: Path) -> None:
    path = tmp_path / "item.json"
    path.write_text(json.dumps(find(AFTER, ORIGINAL)))
    access = SourceOptions(earth_engine=options)

    scene = ANY_SCENES.parse(read_item(str(path)))
    place = Place(StoreLocation(str(tmp_path / "raw" / scene.source / scene.id)))
    write_tile(place, ANY_SCENES.fetch(scene, NEEDED, access), metadata={"item": scene.item}, encoded=True)
    calibrated = ANY_SCENES.calibrate(read_tile(place, NEEDED, decode=False), {}).compute()

    assert scene.item == find(AFTER, ORIGINAL)
    assert (scene.source, scene.id) == ("earth_engine", AFTER.index)
    assert ANY_SCENES.grid(scene, access) == calibrated.odc.geobox
    expected = SCENES.calibrate(SCENES.open_raw(scene, NEEDED, options), {}).compute()
    for name in (*VISIBLE_NIR, "quality_data_mask"):
        np.testing.assert_array_equal(calibrated[name].values, expected[name].values)
    lazy = ANY_SCENES.calibrate(ANY_SCENES.open_raw(scene, NEEDED, access), {})
    np.testing.assert_array_equal(lazy["red"].values, expected["red"].values)


def test_each_scene_is_read_by_the_source_of_its_item(made: Any, find: Find) -> None:
    scene = ANY_SCENES.parse(read_item(str(made.write_item())))
    assert scene.source == "cdse"
    options = SourceOptions()
    raw = ANY_SCENES.fetch(scene, ["red"], options).collect()
    np.testing.assert_array_equal(raw["red"].values, made.values["red"])
    assert ANY_SCENES.grid(scene, options) == raw.odc.geobox
    assert ANY_SCENES.parse(find(AFTER)).source == "earth_engine"
    with pytest.raises(SettingsError, match="quarterly mosaics have no classes"):
        ANY_SCENES.calibrate(raw.assign_attrs(source="cdse_mosaic"), {8: 2})
    with pytest.raises(SceneError, match="is not a STAC item"):
        ANY_SCENES.parse({"id": "x", "assets": []})
