"""The table of verdicts loses nothing: on a path and on S3, with concurrent, killed and compacting writers."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import obstore
import pytest

from darts_assets.errors import NotReadableError
from darts_assets.review import verdict_store
from darts_assets.review.verdict_record import Verdict
from darts_assets.review.verdict_store import (
    AllVerdicts,
    PointVerdictStore,
    VerdictStore,
    read_point_verdicts,
    read_verdicts,
)
from darts_assets.stores.location import StoreLocation
from tests.review.verdict_samples import point_verdict, verdict
from tests.servers.s3.moto_server import CREDENTIALS, S3Server


@pytest.fixture(params=["path", pytest.param("s3", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    if request.param == "path":
        yield StoreLocation(str(tmp_path / "store"))
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield server.location("root")
    server.stop()


def ids(verdicts: list[Verdict]) -> set[str]:
    return {each.id for each in verdicts}


def objects(root: StoreLocation) -> set[str]:
    return set(VerdictStore(root).location.keys())


def test_verdicts_are_appended_and_each_is_stored_once(root: StoreLocation) -> None:
    store, first, second = VerdictStore(root), [verdict(), verdict()], [verdict(note="<b>\n")]
    assert store.verdicts() == []
    assert store.append(first) == 2
    before = {key: bytes(obstore.get(store.location.objects(), key).bytes()) for key in objects(root)}
    assert store.append([*first, *second, *second]) == 1
    assert VerdictStore(root).append(first) == 0
    assert {each.id: each for each in read_verdicts(root)} == {each.id: each for each in [*first, *second]}
    now = {key: bytes(obstore.get(store.location.objects(), key).bytes()) for key in objects(root)}
    assert len(now) == 2
    assert before.items() <= now.items()  # what was written is unchanged


def test_reading_creates_nothing(tmp_path: Path) -> None:
    assert read_verdicts(StoreLocation(str(tmp_path / "store"))) == []
    assert not (tmp_path / "store").exists()


def test_concurrent_writers_and_compactions_lose_nothing(root: StoreLocation) -> None:
    def write(writer: int) -> set[str]:
        store, own = VerdictStore(root), [verdict(reviewer=f"reviewer {writer}") for _ in range(5)]
        for each in own:
            assert store.append([each]) == 1
            if writer % 2:
                store.compact(2)
        return ids(own)

    with ThreadPoolExecutor(4) as pool:
        written = set().union(*pool.map(write, range(4)))
    assert ids(read_verdicts(root)) == written
    VerdictStore(root).compact(2)
    assert len(objects(root)) == 1
    assert ids(read_verdicts(root)) == written


def test_few_objects_are_left_as_they_are(root: StoreLocation) -> None:
    store = VerdictStore(root)
    for _ in range(3):
        store.append([verdict()])
    assert store.compact() == 0
    assert store.compact(3) == 3
    assert len(objects(root)) == 1


def test_merged_objects_have_a_limited_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = StoreLocation(str(tmp_path))
    store, every = VerdictStore(root), [verdict() for _ in range(10)]
    for each in every:
        store.append([each])
    monkeypatch.setattr(verdict_store, "_SMALL", 3 * len(every[0].line()) + 10)
    assert store.compact(2) == 9
    assert len(objects(root)) == 4
    assert ids(read_verdicts(root)) == ids(every)
    assert store.compact(5) == 0


class Killed(BaseException):
    """The end of a process: nothing catches it, and `compact` has no cleanup."""


def killed_at(number: int, requests: Iterator[int], call: Callable[..., Any]) -> Callable[..., Any]:
    """A request to the store whose process ends if it is the given one."""

    def request(*args: Any, **options: Any) -> Any:
        if next(requests) == number:
            raise Killed
        return call(*args, **options)

    return request


def test_a_compaction_that_is_killed_at_any_request_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every, at, ended = [verdict() for _ in range(3)], 0, False
    while not ended:
        at += 1
        root, requests = StoreLocation(str(tmp_path / str(at))), count(1)
        for each in every:
            VerdictStore(root).append([each])
        with monkeypatch.context() as patch:
            for name in ("put", "get", "delete", "list"):
                patch.setattr(obstore, name, killed_at(at, requests, getattr(obstore, name)))
            try:
                VerdictStore(root).compact(2)
                ended = True
            except Killed:
                pass
        assert ids(read_verdicts(root)) == ids(every)
        VerdictStore(root).compact(2)
        assert len(objects(root)) == 1
        assert ids(read_verdicts(root)) == ids(every)
    assert at > 7  # 2 lists, 3 reads, 1 PUT, 1 read, 1 DELETE


def test_a_reader_whose_object_is_merged_meanwhile_lists_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = StoreLocation(str(tmp_path))
    every = [verdict(), verdict()]
    for each in every:
        VerdictStore(root).append([each])
    get, reader, merged = VerdictStore._get, VerdictStore(root), []

    def slow(self: VerdictStore, key: str) -> bytes:
        if self is reader and not merged:
            merged.append(VerdictStore(root).compact(2))
        return get(self, key)

    monkeypatch.setattr(VerdictStore, "_get", slow)
    assert ids(reader.verdicts()) == ids(every)
    assert merged == [2]


def test_an_object_that_is_not_a_table_of_verdicts_is_an_error_with_its_name(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path))
    VerdictStore(root).append([verdict()])
    folder = tmp_path / "review" / "verdicts"
    (folder / "x.jsonl#1").write_text("{")  # an interrupted PUT
    (folder / "README.txt").write_text("{")
    assert len(read_verdicts(root)) == 1
    (folder / "foreign.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(NotReadableError, match=r"foreign\.jsonl: line\[0\].id: .* move this object out of the folder"):
        read_verdicts(root)


def test_verdicts_about_points_are_kept_apart(root: StoreLocation) -> None:
    slump, points = verdict(), [point_verdict(), point_verdict(sample_id="area-2024-1-0123ab-0002")]
    every = AllVerdicts(root)
    assert every.append([points[0], slump, points[1]]) == 3
    assert every.append([slump, *points]) == 0
    assert read_verdicts(root) == [slump]
    assert {each.id: each for each in read_point_verdicts(root)} == {each.id: each for each in points}
    assert len(every.verdicts()) == 3
    assert every.compact() == 0
    assert {key.partition("/")[0] for key in root.child("review").keys()} == {"verdicts", "point_verdicts"}  # noqa: SIM118
    content = f"{points[0].line()}\n".encode()
    obstore.put(VerdictStore(root).location.objects(), "points.jsonl", content)
    with pytest.raises(NotReadableError, match=r"points\.jsonl: line\[0\]: expected a Verdict, not a PointVerdict"):
        read_verdicts(root)
    assert len(PointVerdictStore(root).verdicts()) == 2
