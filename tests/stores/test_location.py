"""Locations of stores: which URLs are accepted, and which names below them."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from darts_assets.errors import DartsError, StoreError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

LONG = "x" * 201


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("s3://darts/prod#test", "the prefix contains '#'"),
        ("s3://darts/prod?versionId=3", "the prefix contains '?'"),
        ("s3://darts/a//b", "the prefix contains '' between slashes"),
        ("s3://darts//a", "the prefix contains '' between slashes"),
        ("s3://darts/a/../b", "the prefix contains '..' between slashes"),
        ("s3://darts/prod ", "the prefix begins or ends with a blank"),
        ("s3://darts/a%20b", "the prefix contains '%'"),
        (f"s3://darts/{LONG}", "the prefix has 201 bytes, more than 200"),
        ("s3://", "the bucket is missing or invalid"),
        ("s3:///prefix", "the bucket is missing or invalid"),
        ("s3://my bucket/prefix", "the bucket is missing or invalid"),
        ("s3://darts?x=1/prefix", "the bucket is missing or invalid"),
        ("s3://darts#x/prefix", "the bucket is missing or invalid"),
        ("s3:/darts/prod", "is not supported"),
        ("s3a://darts/prod", "is not supported"),
        ("gs://darts/prod", "is not supported"),
        ("", "'' is not a location"),
        ("  ", "is not a location"),
    ],
)
def test_a_url_that_objects_cannot_have_is_refused(url: str, problem: str) -> None:
    with pytest.raises(StoreError, match="s3://bucket/prefix") as raised:
        StoreLocation(url)
    assert problem in str(raised.value)


def test_a_refused_url_does_not_show_its_keys() -> None:
    with pytest.raises(StoreError, match=r"s3://\*\*\*@darts/prod: the bucket is") as raised:
        StoreLocation("s3://key:SECRET@darts/prod")
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "minio", "http://h:9000/ a", "https://h?x=1", "ftp://h", " "])
def test_an_endpoint_without_scheme_is_refused(endpoint: str) -> None:
    with pytest.raises(DartsError, match="is not the URL of an S3 service; expected https://HOST or http://HOST:PORT"):
        StoreLocation("s3://darts/prod", endpoint)


def test_case_and_last_slash_do_not_matter() -> None:
    written = StoreLocation("S3://darts/prod/", "HTTP://127.0.0.1:9000/", "eu-1")
    assert written == StoreLocation("s3://darts/prod", "http://127.0.0.1:9000", "eu-1")
    assert written.child("raw", "a b").url == "s3://darts/prod/raw/a b"
    assert (written.bucket, written.prefix, written.file("x")) == ("darts", "prod", "darts/prod/x")
    assert StoreLocation("s3://darts/").url == "s3://darts"
    assert StoreLocation("s3://darts").child("raw").prefix == "raw"


@pytest.mark.parametrize("folder", ["a b", "prod#1", "what?", "50%"])
def test_a_folder_may_have_any_name(tmp_path: Path, folder: str) -> None:
    place = Place(StoreLocation(str(tmp_path / folder)).child("vectors", "S1"))
    with place.new_version() as version:
        place.publish(version, {"a": version.id}, {})
    assert place.require().contents == {"a": version.id}
    assert [path.name for path in tmp_path.iterdir()] == [folder]


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "a\\b", "../../evil", "a#b", "a?b", "a\nb", " a", LONG, "æ" * 101, "\ud800"]
)
@pytest.mark.parametrize("root", ["/store", "s3://darts/prod"])
def test_a_name_cannot_leave_the_store_or_change(name: str, root: str) -> None:
    with pytest.raises(StoreError, match="cannot be a name in a store"):
        StoreLocation(root).child("raw", name)


@pytest.mark.parametrize("separator", "#?")
def test_places_never_collapse_into_one_prefix(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, separator: str
) -> None:
    """A prefix with `#` or `?` was cut off, so that one new version deleted everything below the prefix."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    bucket = server.location("prod").bucket
    client = boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1")
    keys = {f"prod/{key}" for key in ("products/S1/current.json", "aux/cube/chunks/x", "my-own-file.txt")}
    for key in keys:
        client.put_object(Bucket=bucket, Key=key, Body=b"precious")
    with pytest.raises(StoreError):
        _write_version(f"s3://{bucket}/prod{separator}test", str(server.endpoint))
    assert keys <= {entry["Key"] for entry in client.list_objects_v2(Bucket=bucket)["Contents"]}


def _write_version(url: str, endpoint: str) -> None:
    with Place(StoreLocation(url, endpoint).child("S2")).new_version():
        pass


def test_folders_are_listed_and_none_is_created(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path / "store"))
    assert root.folders() == []
    assert not root.path.exists()
    for folder in ("b", "a/inner"):
        (root.path / folder).mkdir(parents=True)
    (root.path / "file").touch()
    assert root.folders() == ["a", "b"]


def test_listing_a_bucket_that_does_not_exist_fails_in_one_sentence(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=r"^s3://nowhere/root cannot be listed: .*NoSuchBucket") as caught:
        StoreLocation("s3://nowhere/root", endpoint=server.endpoint).folders()
    assert "Debug source" not in str(caught.value)


def test_a_room_elsewhere_is_a_child_of_the_store() -> None:
    raw = StoreLocation("s3://shared/raw", endpoint="http://127.0.0.1:9")
    root = StoreLocation("/data/store", rooms=(("raw", raw),))
    assert root.child("raw") == raw
    child = root.child("raw", "cdse", "S2A")
    assert (child.url, child.endpoint) == ("s3://shared/raw/cdse/S2A", "http://127.0.0.1:9")
    assert child.root == raw, "a preflight tests the place where it lies"
    tiles = root.child("tiles", "raw")
    assert (tiles.url, tiles.rooms, tiles.root.url) == ("/data/store/tiles/raw", (), "/data/store")
    assert tiles.child("raw").url == "/data/store/tiles/raw/raw"
    assert root.root == root
    assert (root.key_of(child.url), root.key_of(tiles.url)) == ("raw/cdse/S2A", "tiles/raw")
    with pytest.raises(ValueError, match="s3://other/raw is not in /data/store"):
        root.key_of("s3://other/raw")
