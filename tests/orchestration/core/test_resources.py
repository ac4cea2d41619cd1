"""Which catalog is asked, and how the files of which provider are reached."""

import json
import logging
from pathlib import Path

import pytest

from darts_assets.definitions import build_defs
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.resources import CDSE_ENDPOINT, SceneCatalogs, SourceAccess
from darts_assets.orchestration.scene_discovery.selection import SceneChoice, searches_by_id
from darts_assets.settings import Settings
from darts_assets.sources.stac.scene_selection import SceneFilter, Selection
from tests.servers.stac_api.earth_search import earth_search_of
from tests.servers.stac_api.server import StacApi

CDSE_ID = "S2A_MSIL2A_20230615T123456_N0509_R012_T33UUP_20230615T145312"
EARTH_SEARCH_ID = "S2A_33UUP_20230615_0_L2A"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)


def catalogs(**settings: object) -> SceneCatalogs:
    found = (build_defs(Settings(**settings)).resources or {})["catalogs"]
    assert isinstance(found, SceneCatalogs)
    return found


def test_who_has_no_keys_gets_the_open_mirror_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert SceneChoice().provider(catalogs()) == "earth_search"
    assert "searching earth_search, because it needs no account" in caplog.text
    assert SceneChoice(source="cdse").provider(catalogs()) == "cdse"
    assert SceneChoice(quarters=[3]).provider(catalogs()) == "cdse_mosaic"


def test_who_has_keys_gets_cdse(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a-key-that-is-not-shown")
    with caplog.at_level(logging.INFO):
        assert SceneChoice().provider(catalogs()) == "cdse"
    assert "AWS_ACCESS_KEY_ID is set" in caplog.text
    assert "a-key-that-is-not-shown" not in caplog.text
    assert SceneChoice().provider(catalogs(source_anonymous=True)) == "earth_search"


def test_keys_of_a_store_on_s3_say_nothing_about_cdse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "store")
    assert catalogs(store="s3://bucket/darts").default()[0] == "earth_search"
    assert catalogs(store="s3://bucket/darts", source_profile="cdse").default()[0] == "cdse"
    assert catalogs(store="s3://bucket/darts", source_endpoint=CDSE_ENDPOINT).default()[0] == "cdse"


def test_ids_decide_by_their_form_unless_a_source_is_named() -> None:
    problems: list[str] = []
    searches = searches_by_id([CDSE_ID, EARTH_SEARCH_ID, "nonsense"], "auto", problems)
    assert {provider: selection.scene_ids for provider, selection in searches.items()} == {
        "cdse": (CDSE_ID,),
        "earth_search": (EARTH_SEARCH_ID,),
    }
    (problem,) = problems
    assert "'nonsense'" in problem
    ((provider, selection),) = searches_by_id([CDSE_ID, EARTH_SEARCH_ID], "cdse", []).items()
    assert (provider, selection.scene_ids) == ("cdse", (CDSE_ID, EARTH_SEARCH_ID))


def test_files_of_each_provider_are_reached_where_they_are() -> None:
    access = SourceAccess()
    for provider in ("cdse", "cdse_mosaic"):
        s3 = access.options_for(provider).s3
        assert (s3.endpoint, s3.anonymous, s3.connections) == (CDSE_ENDPOINT, False, 1)
    s3 = access.options_for("earth_search").s3
    assert (s3.endpoint, s3.anonymous, s3.region, s3.connections) == (None, True, "us-west-2", 4)
    s3 = access.options_for("common_names").s3
    assert (s3.endpoint, s3.anonymous) == (None, False)


def test_settings_win_over_where_providers_are() -> None:
    settings = Settings(
        source_endpoint="http://127.0.0.1:9", source_connections=3, source_profile="eo",
        earth_engine_project="permafrost", earth_engine_url="http://127.0.0.1:8",
    )  # fmt: skip
    raw = (build_defs(settings).resources or {})["raw"]
    for provider in ("cdse", "earth_search"):
        options = raw.access.options_for(provider)
        assert (options.s3.endpoint, options.s3.connections, options.s3.profile) == ("http://127.0.0.1:9", 3, "eo")
        assert (options.earth_engine.project, options.earth_engine.url) == ("permafrost", "http://127.0.0.1:8")
    assert raw.access.options.endpoint == "http://127.0.0.1:9"


def test_a_senseless_collection_of_earth_engine_is_refused() -> None:
    with pytest.raises(SettingsError, match="COPERNICUS/S2_SR_HARMONIZED or COPERNICUS/S2_SR"):
        catalogs().open("earth_engine", "COPERNICUS/S2")


def test_earth_search_is_asked_at_the_url_of_the_settings(stac_api: StacApi, tmp_path: Path) -> None:
    box = [[[15, 52], [16, 52], [16, 53], [15, 53], [15, 52]]]
    properties = {
        "datetime": "2023-06-15T12:34:56Z", "grid:code": "MGRS-33UUP", "eo:cloud_cover": 3, "s2:snow_ice_percentage": 0,
        "s2:processing_baseline": "05.09", "created": "2023-06-16T00:00:00Z",
    }  # fmt: skip
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": EARTH_SEARCH_ID, "properties": properties, "links": [],
        "geometry": {"type": "Polygon", "coordinates": box}, "bbox": [15, 52, 16, 53], "assets": {},
    }  # fmt: skip
    stac_api.load("sentinel-2-l2a", [json.loads(json.dumps(item))])
    with earth_search_of(stac_api.url) as url:
        mirror = catalogs(earth_search_url=url, catalog_pause=0.0).open("earth_search", "")
        assert [found["id"] for found in mirror.search(Selection(tiles=["33UUP"]))] == [EARTH_SEARCH_ID]
        assert list(mirror.search(Selection(tiles=["33UUP"], filter=SceneFilter(max_cloud_cover=2)))) == []


def test_filters_are_those_of_the_catalogs() -> None:
    choice = SceneChoice(
        tiles=["33UUP"],
        max_cloud_cover=20.0,
        max_snow_cover=30.0,
        start="2023-07-01",
        end="2023-07-31",
        baseline="05.09",
    )
    wanted = choice.as_filter()
    assert (wanted.max_cloud_cover, wanted.max_snow_cover, wanted.baseline) == (20.0, 30.0, "05.09")
    assert (str(wanted.start), str(wanted.end)) == ("2023-07-01", "2023-07-31")
    assert SceneChoice(months=[7, 8], years=[2022], quarters=[]).as_filter() == SceneFilter(
        months=(7, 8), years=(2022,)
    )
    assert SceneChoice().as_filter() == SceneFilter()
