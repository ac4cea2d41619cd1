"""Replaced versions: what is kept, what is collected, and that kills at any moment lose nothing."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import obstore
import pytest

from darts_assets.stores.location import StoreLocation
from darts_assets.stores.replaced_versions import collect_replaced, mentioned_versions, place_at, places
from tests.servers.s3.moto_server import CREDENTIALS, S3Server
from tests.stores.killed_writer import FILES, SCENE, kill_writers, mention, product_place

HOUR = timedelta(hours=1)


def publish(root: StoreLocation, text: str, *parts: str, files: tuple[str, ...] = FILES) -> str:
    place = place_at(root, *parts, grace=HOUR)
    with place.new_version() as version:
        for name in files:
            obstore.put(version.location.objects(), name, text.encode())
        place.publish(version, dict.fromkeys(files, version.id), {})
    return version.id


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(params=["path", pytest.param("s3", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreLocation:
    if request.param == "path":
        return StoreLocation(str(tmp_path / "store"))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server: S3Server = request.getfixturevalue("server")
    return server.location(tmp_path.name.replace("_", "-")[-30:].strip("-").lower())


def read(root: StoreLocation, *parts: str) -> str:
    return bytes(obstore.get(root.objects(), "/".join(parts)).bytes()).decode()


def test_versions_that_the_catalog_mentions_stay_until_it_has_moved_on(root: StoreLocation) -> None:
    parts = ("products", "sentinel2", SCENE)
    assert collect_replaced(root, timedelta(0), lambda line: None).places == 0
    old, middle, new = (publish(root, text, *parts) for text in ("1", "2", "3"))
    mention(root, f"../../../../products/sentinel2/{SCENE}/{old}/a.txt")
    assert mentioned_versions(root, SCENE) == {old}
    assert mentioned_versions(root, "scen") == mentioned_versions(root, "other") == set()
    assert list(places(root)) == [parts]
    assert collect_replaced(root, HOUR, lambda line: None).removed == 0
    assert read(root, *parts, middle, "a.txt") == "2"
    done = collect_replaced(root, timedelta(0), lambda line: None)
    assert (done.places, done.removed, done.problems) == (1, 1, {})
    with pytest.raises(FileNotFoundError):
        read(root, *parts, middle, "a.txt")
    assert [read(root, *parts, version, "b.txt") for version in (old, new)] == ["1", "3"]
    mention(root, f"../../../../products/sentinel2/{SCENE}/{new}/a.txt")
    assert collect_replaced(root, timedelta(0), lambda line: None).removed == 1


def test_latest_leads_to_the_current_files(root: StoreLocation) -> None:
    parts = ("products", "sentinel2", SCENE)
    publish(root, "1", *parts, files=("a.txt", "c.txt"))
    assert read(root, *parts, "latest", "c.txt") == "1"
    publish(root, "2", *parts)
    assert [read(root, *parts, "latest", name) for name in FILES] == ["2", "2"]
    with pytest.raises(FileNotFoundError):
        read(root, *parts, "latest", "c.txt")
    if root.is_local:
        assert (root.path.joinpath(*parts) / "latest").readlink().name == (
            product_place(root).require().contents["a.txt"]
        )


def test_latest_left_behind_is_refreshed_before_its_version_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, parts = StoreLocation(str(tmp_path)), ("products", "sentinel2", SCENE)
    publish(root, "1", *parts)
    with monkeypatch.context() as patch:  # as if the writer were killed in between
        patch.setattr("darts_assets.stores.publish.refresh_latest", lambda *arguments: None)
        publish(root, "2", *parts)
    assert read(root, *parts, "latest", "a.txt") == "1"
    assert collect_replaced(root, timedelta(0), lambda line: None).removed == 1
    assert read(root, *parts, "latest", "a.txt") == "2"


def test_a_damaged_place_is_reported_and_the_others_are_collected(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path))
    for scene in ("a", "b"):
        for text in ("1", "2"):
            publish(root, text, "products", "sentinel2", scene)
    (tmp_path / "products/sentinel2/a/current.json").write_text("{")
    done = collect_replaced(root, timedelta(0), lambda line: None)
    assert (done.places, done.removed, list(done.problems)) == (2, 1, ["products/sentinel2/a"])
    assert "current.json is damaged" in done.problems["products/sentinel2/a"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "stores", "kills"), [("path", 10, 8), ("s3", 4, 4)])
def test_kills_at_any_moment_leave_what_is_published_and_mentioned(
    kind: str, stores: int, kills: int, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kill hits as many writers as there are stores; `tests/benchmarks/kill_writers.py` kills more."""
    if kind == "path":
        roots = [StoreLocation(str(tmp_path / str(number))) for number in range(stores)]
    else:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        server: S3Server = request.getfixturevalue("server")
        roots = [server.location("root") for _ in range(stores)]
    assert kill_writers(roots, kills) > 2 * stores, "the writers get far enough"
