import json
from pathlib import Path

import pytest

from darts_assets.errors import SceneError
from darts_assets.sources import parse_item, read_item


def test_relative_hrefs_become_absolute(made, monkeypatch):
    path = made.write_item()
    item = read_item(str(path))
    assert item["assets"]["B02_10m"]["href"] == str(made.path("B02_10m"))
    monkeypatch.chdir(made.folder)
    assert read_item("item.json")["assets"] == item["assets"]
    assert read_item(path.as_uri())["assets"] == item["assets"]


def test_absolute_hrefs_stay(shared):
    folder = shared / "data" / "cdse_stac" / "official_example_T13VEK"
    (path,) = folder.glob("*.json")
    assert read_item(str(path))["assets"]["B02_10m"]["href"].startswith("s3://eodata/Sentinel-2/MSI/L2A")


def test_hrefs_of_a_real_item_are_resolved_beside_it(shared):
    (path,) = (shared / "data" / "stactools_sentinel2").rglob("*T01WCP*.SAFE/expected_output.json")
    href = parse_item(read_item(str(path))).bands["blue"].href
    assert Path(href).parts[: len(path.parent.parts)] == path.parent.parts
    assert href.endswith("R10m/T01WCP_20230625T234621_B02_10m.jp2")


def test_feature_collection_is_refused(shared):
    path = shared / "data" / "cdse_stac" / "openeo_2020_T36NYH" / "FeatureCollection.json"
    with pytest.raises(SceneError, match=r"FeatureCollection\.json is a collection of 1 items"):
        read_item(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>", "not JSON"),
        ("[1]", "its top level is a list"),
        ('{"type": "Catalog", "links": []}', "got 'Catalog'"),
        ('{"type": "Feature", "geometry": null}', "with assets expected"),
        ('{"type": "Feature", "assets": {"B02": {}}}', "asset B02 has no href"),
    ],
)
def test_what_is_not_an_item_is_refused(tmp_path, content, message):
    (tmp_path / "thing.json").write_text(content)
    with pytest.raises(SceneError, match=message) as raised:
        read_item(str(tmp_path / "thing.json"))
    assert "thing.json" in str(raised.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(SceneError, match=r"nowhere\.json: there is no such file"):
        read_item(str(tmp_path / "nowhere.json"))


def test_item_over_http(web, made):
    made.write_item()
    item = read_item(f"{web.url}/item.json")
    assert item["assets"]["SCL_20m"]["href"] == f"{web.url}/SCL_20m.tif"
    assert json.dumps(item["properties"]) == json.dumps(made.item["properties"])
    with pytest.raises(SceneError, match=r"none\.json: there is no such file"):
        read_item(f"{web.url}/none.json")


def test_size_and_depth_are_limited(tmp_path, monkeypatch):
    path = tmp_path / "item.json"
    path.write_text('{"a":' * 100_000)
    with pytest.raises(SceneError, match=r"item\.json is not a STAC item: it is not JSON"):
        read_item(str(path))
    monkeypatch.setattr("darts_assets.remote.byte_reader.read_bytes.__defaults__", (None, 1000))
    with pytest.raises(SceneError, match=r"item\.json has more than 1000 bytes; a STAC item was expected"):
        read_item(str(path))
