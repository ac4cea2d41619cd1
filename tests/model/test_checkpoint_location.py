"""Checkpoints on S3, as local files: fetched once, never in part, anew when they change, and still not trusted."""

import hashlib
import http.server
import io
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest
import torch

from darts_assets.bands import FEATURES
from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.errors import CheckpointError, SourceUnavailableError
from darts_assets.model import local_checkpoint, open_checkpoint, read_description, read_header
from darts_assets.model.networks import load_model
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.stores.location import StoreLocation
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

SECRET = "wJalrXUtnFEMI-secret-key"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    running = S3Server(tmp_path_factory.mktemp("s3"))
    yield running
    running.stop()


@pytest.fixture
def store(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StoreLocation:
    """A store on S3 with a model, whose copies go to a folder of this test."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))  # as TMPDIR does for a process that begins
    made = server.location("store")
    obstore.put(made.child("models").objects(), "mine.ckpt", DEMO_CHECKPOINT)
    server.requests()
    return made


def test_by_name_and_by_url_it_is_the_model_and_is_fetched_once(server: S3Server, store: StoreLocation) -> None:
    path = local_checkpoint("mine", store)
    assert path.read_bytes() == DEMO_CHECKPOINT.read_bytes()
    assert local_checkpoint("mine", store) == local_checkpoint(f"{store}/models/mine.ckpt", store) == path
    assert [line.split()[0] for line in server.requests()] == ["HEAD", "GET", "HEAD", "HEAD"]
    header = read_header(path)
    assert header.name == "mine"
    one, other = (load_model(each).state_dict() for each in (header, read_header(DEMO_CHECKPOINT)))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_what_replaces_it_is_fetched_and_a_header_of_the_old_one_still_loads(store: StoreLocation) -> None:
    old = read_header(local_checkpoint("mine", store))
    obstore.put(store.child("models").objects(), "mine.ckpt", b"another one")
    new = local_checkpoint("mine", store)
    assert new.read_bytes() == b"another one"
    load_model(old)
    with pytest.raises(CheckpointError, match=r"mine\.ckpt"):
        read_header(new)


def test_many_at_once_see_all_of_it(store: StoreLocation) -> None:
    with ThreadPoolExecutor(8) as pool:
        (path,) = set(pool.map(lambda _: local_checkpoint("mine", store), range(8)))
    assert path.read_bytes() == DEMO_CHECKPOINT.read_bytes()
    assert list(path.parent.iterdir()) == [path], "nothing is left of the other writers"


def test_bands_are_read_by_ranges_without_a_copy_and_without_a_digest(
    server: S3Server, store: StoreLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(DEMO_CHECKPOINT, weights_only=True)
    content["state_dict"]["large"] = torch.zeros(5_000_000)
    torch.save(content, tmp_path / "large.ckpt")
    obstore.put(store.child("models").objects(), "large.ckpt", tmp_path / "large.ckpt")
    fetched: list[int] = []
    get_range = obstore.get_range

    def counted(*arguments: Any, **keywords: Any) -> Any:
        fetched.append(keywords["length"])
        return get_range(*arguments, **keywords)

    monkeypatch.setattr(obstore, "get_range", counted)
    monkeypatch.setattr(obstore, "get", None)
    monkeypatch.setattr(hashlib, "file_digest", None)
    server.requests()
    models = Models(store=Store(url=str(store), endpoint=store.endpoint, region=store.region), checkpoints=["large"])
    assert (models.bands, models.terrain) == (FEATURES, "darts-2025")
    assert models.descriptions[0].name == "large"
    assert sum(fetched) < 0.05 * (tmp_path / "large.ckpt").stat().st_size
    assert len(server.requests()) <= 8
    assert list((tmp_path / "tmp").iterdir()) == []


def test_of_a_local_checkpoint_only_the_pickle_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashlib, "file_digest", None)
    models = Models(store=Store(url=str(tmp_path)), checkpoints=[f"mine={DEMO_CHECKPOINT}"])
    assert models.bands == FEATURES
    with open_checkpoint(str(DEMO_CHECKPOINT), StoreLocation(str(tmp_path))) as (file, label):
        reads: list[int] = []
        read = file.read

        class Counted(io.BufferedReader):
            def read(self, size: int | None = -1, /) -> bytes:
                data = read(size)
                reads.append(len(data))
                return data

        assert read_description(Counted(file), label, "mine").bands == FEATURES  # type: ignore[arg-type]
    assert sum(reads) < 0.1 * DEMO_CHECKPOINT.stat().st_size


def test_code_in_it_is_not_run(store: StoreLocation, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "run",)

    torch.save({"hyper_parameters": {"config": Code()}, "state_dict": {}}, tmp_path / "bad.ckpt", pickle_module=pickle)
    obstore.put(store.child("models").objects(), "bad.ckpt", tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match=r"bad\.ckpt"):
        read_header(local_checkpoint("bad", store))
    assert not (tmp_path / "run").exists()


def test_a_store_on_a_disk_is_not_copied(tmp_path: Path) -> None:
    store = StoreLocation(str(tmp_path))
    assert local_checkpoint("mine", store) == tmp_path / "models" / "mine.ckpt"
    assert local_checkpoint("./mine.ckpt", store) == Path("mine.ckpt")
    assert local_checkpoint("epoch=3.ckpt", store) == Path("epoch=3.ckpt")
    assert local_checkpoint("~/mine.ckpt", store) == Path.home() / "mine.ckpt"


def test_what_is_not_there_is_named(store: StoreLocation) -> None:
    with pytest.raises(CheckpointError, match=rf"{store}/models/other\.ckpt cannot be read: the object does not exist"):
        local_checkpoint("other", store)
    with pytest.raises(CheckpointError, match="expected a file"):
        local_checkpoint("s3://bucket/models/", store)


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (403, f"<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>{SECRET}</AWSAccessKeyId></Error>",
         CheckpointError, "cannot be read: .* denies access"),
        (400, SECRET, SourceUnavailableError, "no usable answer"),
    ],
)  # fmt: skip
def test_what_s3_refuses_is_told_without_keys(
    status: int, body: str, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body.encode())

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None: ...

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{service.server_port}"
        with pytest.raises(error, match=words) as raised:
            local_checkpoint("s3://bucket/mine.ckpt", StoreLocation("s3://bucket", endpoint, "us-east-1"))
        service.shutdown()
    assert SECRET not in f"{raised.getrepr(chain=True)} {caplog.text}"


def test_a_folder_that_others_may_write_to_is_not_trusted(store: StoreLocation) -> None:
    folder = local_checkpoint("mine", store).parents[2]
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    with pytest.raises(CheckpointError, match="is not this user's own: set TMPDIR"):
        local_checkpoint("mine", store)
