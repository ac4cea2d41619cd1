"""Scenes over HTTP and from S3, by real servers on loopback."""

import logging
from collections.abc import Iterator

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from darts_assets.errors import RasterError, SceneError, SourceUnavailableError
from darts_assets.remote import retry
from darts_assets.sources import S3Options, check_files, fetch, open_raw, parse_item, read_item

BANDS = ("blue", "rededge071", "s2_scl")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)


def assert_right(made, dataset) -> None:
    assert np.array_equal(dataset["blue"].values, made.values["blue"])
    assert np.array_equal(dataset["s2_scl"].values, made.values["s2_scl"].repeat(2, 0).repeat(2, 1))


@pytest.fixture
def web_scene(web, made):
    made.write_item()
    return parse_item(read_item(f"{web.url}/item.json"))


def test_over_http(made, web, web_scene):
    assert web_scene.bands["blue"].href == f"{web.url}/B02_10m.tif"
    assert_right(made, fetch(web_scene, BANDS).collect())
    assert_right(made, open_raw(web_scene, BANDS).compute())


@pytest.mark.parametrize("status", [503, 429])
def test_passing_failures_are_retried(made, web, status):
    made.write_item()
    web.failures["item.json"] = status, 2
    scene = parse_item(read_item(f"{web.url}/item.json"))
    web.failures["B02_10m"] = status, 2
    stream = fetch(scene, BANDS)
    assert web.failures["B02_10m"] == (status, 0)
    web.failures["B02_10m"] = status, 2
    assert_right(made, stream.collect())
    assert web.failures["B02_10m"] == (status, 0)


def test_missing_is_not_retried(made, web, web_scene):
    made.path("B02_10m").unlink()
    web.requests.clear()
    with pytest.raises(RasterError, match=rf"band blue, file {web.url}/B02_10m\.tif: there is no such file"):
        check_files(web_scene, ["blue"])
    assert web.requests == ["GET /B02_10m.tif"]


def test_refusal_is_not_retried(web, web_scene):
    web.requests.clear()
    web.failures["B02_10m"] = 403, 99
    with pytest.raises(SourceUnavailableError, match=r"B02_10m\.tif cannot be read: .*403 Forbidden"):
        check_files(web_scene, ["blue"])
    assert len(web.requests) == 1


def test_service_that_stays_down(web, web_scene):
    stream = fetch(web_scene, BANDS)
    web.failures["B02_10m"] = 503, 999
    web.requests.clear()
    with pytest.raises(SourceUnavailableError, match=r"band blue, file .*503 Service Unavailable"):
        next(stream.windows)
    assert 5 <= sum("B02_10m" in request for request in web.requests) < 20
    web.failures["item.json"] = 503, 999
    with pytest.raises(SourceUnavailableError, match=r"item\.json cannot be read: .*503"):
        read_item(f"{web.url}/item.json")


def test_nobody_answers():
    with pytest.raises(SourceUnavailableError, match=r"http://127\.0\.0\.1:9/item\.json cannot be read: .* refused"):
        read_item("http://127.0.0.1:9/item.json")


def test_truncated_on_the_server(made, web, web_scene):
    path = made.path("B02_10m")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RasterError, match=rf"band blue, file {web.url}/B02_10m\.tif is truncated"):
        fetch(web_scene, BANDS)


def test_truncated_jp2_on_the_server(made, web, real_jp2):
    (made.folder / "B02.jp2").write_bytes(real_jp2.read_bytes()[:-1])
    made.item["assets"]["B02_10m"]["href"] = "B02.jp2"
    del made.item["assets"]["B02_10m"]["file:size"]
    made.write_item()
    scene = parse_item(read_item(f"{web.url}/item.json"))
    with pytest.raises(RasterError, match=r"B02\.jp2 is truncated or damaged"):
        fetch(scene, BANDS)


def test_truncated_while_reading(made, web, web_scene):
    stream = fetch(web_scene, ["blue"])
    path = made.path("B02_10m")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RasterError, match=rf"band blue, file {web.url}/B02_10m\.tif cannot be read"):
        next(stream.windows)
    path.unlink()
    with pytest.raises(RasterError, match="no such file any more"):
        next(fetch_again(web_scene, made).windows)


def fetch_again(scene, made):
    """A stream whose file vanishes after it was checked."""
    made.path("B02_10m").write_bytes(made.path("B03_10m").read_bytes())
    sized = parse_item({**scene.item, "assets": {k: {**v, "file:size": None} for k, v in scene.item["assets"].items()}})
    stream = fetch(sized, ["blue"])
    made.path("B02_10m").unlink()
    return stream


def test_signatures_travel_but_are_never_shown(made, web, caplog):
    made.write_item()
    item = read_item(f"{web.url}/item.json?sig=SECRET")
    for asset in item["assets"].values():
        asset["href"] += "?sig=SECRET"
    scene = parse_item(item)
    with caplog.at_level(logging.DEBUG, logger="odc"):
        stream = fetch(scene, BANDS)
        assert_right(made, fetch(scene, BANDS).collect())
        assert any(request.endswith("B02_10m.tif?sig=SECRET") for request in web.requests)
        web.failures["B02_10m"] = 404, 999
        with pytest.raises(RasterError) as raised:
            next(stream.windows)
    chain = [
        raised.value,
        raised.value.__cause__,
        raised.value.__context__ if not raised.value.__suppress_context__ else None,
    ]
    assert "SECRET" not in " ".join(map(str, chain))
    assert "SECRET" not in caplog.text
    with pytest.raises(SceneError) as missing:
        read_item(f"{web.url}/no.json?sig=SECRET")
    assert "SECRET" not in str(missing.value)


@pytest.fixture
def s3(made, monkeypatch) -> Iterator[S3Options]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="eodata")
    made.write_item()
    for file in made.folder.iterdir():
        client.upload_file(str(file), "eodata", f"Sentinel-2/MSI/{file.name}", ExtraArgs={"ACL": "public-read"})
    yield S3Options(endpoint=endpoint, region="us-east-1")
    server.stop()


@pytest.mark.parametrize("anonymous", [False, True])
def test_from_s3(made, s3, monkeypatch, anonymous):
    options = S3Options(s3.endpoint, s3.region, anonymous)
    if anonymous:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    scene = parse_item(read_item("s3://eodata/Sentinel-2/MSI/item.json", options))
    assert scene.bands["blue"].href == "s3://eodata/Sentinel-2/MSI/B02_10m.tif"
    assert_right(made, fetch(scene, BANDS, s3=options).collect())
    assert_right(made, open_raw(scene, BANDS, s3=options).compute())


def test_missing_in_s3(made, s3):
    with pytest.raises(SceneError, match=r"s3://eodata/none\.json: there is no such file"):
        read_item("s3://eodata/none.json", s3)
    made.item["assets"]["B02_10m"]["href"] = "s3://eodata/none.tif"
    scene = parse_item(made.item)
    with pytest.raises(RasterError, match=r"band blue, file s3://eodata/none\.tif: there is no such file"):
        check_files(scene, ["blue"], s3)


def test_two_services_do_not_mix(made, s3):
    scene = parse_item(read_item("s3://eodata/Sentinel-2/MSI/item.json", s3))
    here = open_raw(scene, BANDS, s3=s3)
    with pytest.raises(SourceUnavailableError, match="cannot be read"):
        open_raw(scene, BANDS, s3=S3Options("http://127.0.0.1:9", "us-east-1"))
    assert_right(made, here.compute())
