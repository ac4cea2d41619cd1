"""`darts-assets doctor`: findings and exit codes for good and bad setups, without secrets."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import ee
import pytest
import requests
from click.testing import CliRunner

from darts_assets.cli import cli
from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.settings import settings
from tests.servers.earth_engine.server import PROJECT, EarthEngineServer
from tests.servers.earth_engine.server import serving as serving_earth_engine
from tests.servers.network.no_sockets import NO_SOCKETS
from tests.servers.s3.moto_server import S3Server
from tests.servers.s3.rclone_server import serving as serving_careless_s3

pytestmark = pytest.mark.slow

SECRET = "SECRETsecretSECRET"
KEPT = ("DARTS_ASSETS_TEST_DATA", "DARTS_CONFIG")
TOKEN = "TOKENtokenTOKEN"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A good setup, and nothing of the machine that runs the tests."""
    for name in list(os.environ):
        if name.startswith(("DARTS_", "AWS_", "GOOGLE_", "GCLOUD_", "DAGSTER_")) and name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (tmp_path / "dagster").mkdir()
    (tmp_path / "tcvis_2024.tif").touch()
    (tmp_path / "arcticdem").mkdir()
    good = {
        "DAGSTER_HOME": tmp_path / "dagster", "DARTS_STORE": tmp_path / "store",
        "DARTS_MODELS": f"slumps={DEMO_CHECKPOINT}", "DARTS_ARCTICDEM": tmp_path / "arcticdem",
        "DARTS_TCVIS": tmp_path / "tcvis_{vintage}.tif",
    }  # fmt: skip
    for name, value in good.items():
        monkeypatch.setenv(name, str(value))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


class Doctor:
    """Runs the command in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(self, *options: str, offline: bool = True, **environment: str) -> dict[str, Any]:
        """`ok`, and for each name "status: message advice" of its findings."""
        for name, value in environment.items():
            self.monkeypatch.setenv(name, value)
        settings.cache_clear()
        done = CliRunner().invoke(cli, ["doctor", "--json", *(["--offline"] if offline else []), *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        document = json.loads(done.stdout)
        assert done.exit_code == (0 if document["ok"] else 1)
        key = environment.get("AWS_ACCESS_KEY_ID", "")
        for secret in (SECRET, TOKEN, *([key] if len(key) > 3 else [])):
            assert secret not in done.output
        findings: dict[str, str] = {}
        for one in document["findings"]:
            text = f"{one['status']}: {one['message']} {one['advice']}".strip()
            findings[one["name"]] = f"{findings[one['name']]} | {text}" if one["name"] in findings else text
        return {"ok": document["ok"], **findings}


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    return Doctor(monkeypatch)


def test_a_good_setup_as_a_user_sees_it_and_offline_without_a_socket(home: Path) -> None:
    code = NO_SOCKETS + (
        "\nimport atexit; atexit.register(lambda: print('torch' in sys.modules))"
        "\nsys.argv = ['darts-assets', 'doctor', '--offline']\nfrom darts_assets.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env={**os.environ, "COLUMNS": "200"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    for line in (
        r"ok +versions +darts_assets [\d.]+, Python 3\.\d+\.\d+, dagster 1\.",
        r"ok +GDAL +GDAL 3\.[\d.]+, PROJ 9\.",
        r"ok +machine +\d+ processors, [\d.]+ GiB of memory",
        r"ok +Dagster +.*/dagster: registered scenes: 0 sentinel2, 0 planet",
        r"(ok|warn) +store +.*/store \(will be created\): writable, [\d.]+ GiB free",
        r"ok +model +slumps: unet, timm-mobilenetv3_small_minimal_100, 13 bands \(red, green, blue, .*",
        r"- +Earth Engine +not used",
        r"- +services +offline: catalog \(earth_search\) not contacted",
    ):
        assert any(re.match(line, printed) for printed in lines), f"{line}\n{done.stdout}"
    assert re.fullmatch(r"0 failed, \d+ warnings, \d+ checks", lines[-2])
    assert lines[-1] == "False", "PyTorch was loaded"
    assert not (home / "store").exists(), "looking changes nothing"


def test_the_shipped_model_and_a_layer_left_out_are_warnings(doctor: Doctor) -> None:
    findings = doctor(DARTS_MODELS="", DARTS_AUXILIARY="arcticdem")
    assert findings["ok"]
    assert re.search("^warn: demo: .* Set DARTS_MODELS to a checkpoint for real scenes.$", findings["model"])
    assert findings["models together"].startswith("warn: the models need tcvis, which DARTS_AUXILIARY does not include")


def test_models_that_cannot_be_used(doctor: Doctor, home: Path) -> None:
    (home / "text.ckpt").write_text("nothing")
    findings = doctor(DARTS_MODELS=f"good={DEMO_CHECKPOINT}, {home / 'absent.ckpt'}, {home / 'text.ckpt'}")
    assert not findings["ok"]
    good, absent, text = findings["model"].split(" | ")
    assert good.startswith("ok: good: unet")
    assert absent.startswith("fail:")
    assert str(home / "absent.ckpt") in absent
    assert text.startswith("fail:")
    assert "Set DARTS_MODELS" in text


def test_dagster(doctor: Doctor, home: Path) -> None:
    findings = doctor(DAGSTER_HOME="")
    assert not findings["ok"]
    assert "fail: DAGSTER_HOME is not set: registered scenes and materializations would be lost" in findings["Dagster"]
    assert "export DAGSTER_HOME=" in findings["Dagster"]
    assert "is not an absolute path of an existing folder" in doctor(DAGSTER_HOME=str(home / "absent"))["Dagster"]
    (home / "dagster" / "dagster.yaml").write_text("storage: {moon: {}}\n")
    assert re.match(
        "fail: the instance in .* cannot be opened: .*", doctor(DAGSTER_HOME=str(home / "dagster"))["Dagster"]
    )


def test_settings_that_make_no_sense(doctor: Doctor) -> None:
    findings = doctor(DARTS_AUXILIARY="lidar")
    assert findings.keys() == {"ok", "settings"}
    assert "DARTS_AUXILIARY" in findings["settings"]
    findings = doctor(DARTS_AUXILIARY="none", DARTS_NOTIFY_WEBHOOK=SECRET)
    assert findings.keys() == {"ok", "settings"}
    assert "DARTS_NOTIFY_WEBHOOK" in findings["settings"]


def test_a_folder_that_cannot_be_written_to(doctor: Doctor, home: Path) -> None:
    (home / "file").touch()
    findings = doctor(DARTS_STORE=str(home / "file" / "below"))
    assert not findings["ok"]
    assert findings["store"].startswith(
        f"fail: {home / 'file' / 'below'}: {home / 'file'} is a file, not a folder Set DARTS_"
    )
    closed = home / "closed"
    closed.mkdir(mode=0o500)
    if os.access(closed, os.W_OK):  # by root
        closed = Path("/sys")
    if sys.platform == "linux":
        findings = doctor(DARTS_STORE=str(closed / "store"))
        assert re.match(f"fail: {closed}/store: {closed} is not writable: (Perm|Read|Oper)", findings["store"])
        assert not findings["ok"]


def test_pods_that_do_not_share_a_folder(doctor: Doctor) -> None:
    findings = doctor(DARTS_EXECUTOR="k8s")
    assert "warn: " in findings["store"]
    assert "runs each step in its own pod" in findings["store"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A service that looks at keys."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def keys(server: S3Server) -> dict[str, str]:
    """Good keys to it, as environment variables; from now on, others are refused."""
    server.client.create_bucket(Bucket="bucket")
    options = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    iam = boto3.client("iam", endpoint_url=server.endpoint, **options)
    iam.create_user(UserName="user")
    made = iam.create_access_key(UserName="user")["AccessKey"]
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=json.dumps(everything))
    requests.post(f"{server.endpoint}/moto-api/reset-auth", data="0", timeout=10)
    return {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}


def store_at(endpoint: str, bucket: str = "bucket") -> dict[str, str]:
    return {
        "DARTS_STORE": f"s3://{bucket}/root", "DARTS_STORE_ENDPOINT": endpoint, "DARTS_STORE_REGION": "us-east-1",
    }  # fmt: skip


def test_a_good_bucket(doctor: Doctor, server: S3Server, keys: dict[str, str]) -> None:
    findings = doctor(**store_at(server.endpoint), **keys)
    assert findings["ok"]
    assert findings["store"] == "ok: s3://bucket/root: writable, safe for concurrent writers"
    left = [entry["Key"] for entry in server_objects(server, keys)]
    assert len(left) == 1, "the record that the store is safe"
    assert left[0].startswith("root/aux/.preflight/passed-")


def server_objects(server: S3Server, keys: dict[str, str]) -> list[dict[str, Any]]:
    client = boto3.client(
        "s3", endpoint_url=server.endpoint, region_name="us-east-1", aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    return client.list_objects_v2(Bucket="bucket").get("Contents", [])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("key", "the key in AWS_ACCESS_KEY_ID is unknown to the service (InvalidAccessKeyId)"),
        ("secret", "the secret in AWS_SECRET_ACCESS_KEY is wrong (SignatureDoesNotMatch)"),
        ("bucket", "the bucket does not exist (NoSuchBucket)"),
    ],
)
def test_a_bucket_that_is_closed(
    doctor: Doctor, server: S3Server, keys: dict[str, str], wrong: str, words: str
) -> None:  # fmt: skip
    given = {**keys, **({"AWS_SECRET_ACCESS_KEY": SECRET} if wrong != "bucket" else {})}
    given |= {"AWS_ACCESS_KEY_ID": "AKIAWRONGWRONG"} if wrong == "key" else {}
    findings = doctor(**store_at(server.endpoint, "absent" if wrong == "bucket" else "bucket"), **given)
    assert not findings["ok"]
    assert f"is not writable: {words}" in findings["store"]


def test_a_store_that_is_not_there(doctor: Doctor) -> None:
    started = time.monotonic()
    findings = doctor(**store_at("http://127.0.0.1:9"), AWS_ACCESS_KEY_ID="AKIAKEYKEY", AWS_SECRET_ACCESS_KEY=SECRET)
    assert not findings["ok"]
    assert "s3://bucket/root: http://127.0.0.1:9 cannot be reached: no connection" in findings["store"]
    assert time.monotonic() - started < 20


def test_a_store_without_conditional_writes(doctor: Doctor, tmp_path: Path) -> None:
    with serving_careless_s3(tmp_path / "served") as rclone:
        findings = doctor(
            **store_at(str(rclone.location.endpoint)), AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret"
        )  # fmt: skip
    assert not findings["ok"]
    assert findings["store"].startswith("fail: s3://bucket/root/aux: the object store ignores conditional writes")
    assert "Set DARTS_STORE to another service or to a path." in findings["store"]


class Service:
    """Answers everything with a status, a body and a time."""

    def __init__(self, status: int, body: str = "", ahead: float = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.send_response_only(status)
                self.send_header("Date", formatdate(time.time() + ahead, usegmt=True))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_PUT = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[..., Service]]:
    services: list[Service] = []

    def make(*arguments: Any, **options: Any) -> Service:
        services.append(service := Service(*arguments, **options))
        return service

    yield make
    for service in services:
        service.server.shutdown()
        service.server.server_close()


EXPIRED = f"<Error><Code>ExpiredToken</Code><Token-0>{TOKEN}</Token-0></Error>"


def test_keys_that_have_expired(doctor: Doctor, serve: Callable[..., Service]) -> None:
    service = serve(400, EXPIRED)
    keys = {"AWS_ACCESS_KEY_ID": "ASIAKEYKEY", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN}
    findings = doctor(**store_at(service.url), **keys)
    assert not findings["ok"]
    assert "s3://bucket/root is not writable: the keys have expired (ExpiredToken) Get new keys" in findings["store"]
    findings = doctor(offline=False, DARTS_STORE="store", DARTS_SOURCE_ENDPOINT=service.url, DARTS_CDSE_URL=service.url)
    assert not findings["ok"]
    assert "the keys in AWS_ACCESS_KEY_ID, to 127.0.0.1:" in findings["keys to scenes"]
    assert "have expired (HTTP 400 ExpiredToken)" in findings["keys to scenes"]


def test_keys_to_scenes(doctor: Doctor, server: S3Server, keys: dict[str, str], serve: Callable[..., Service]) -> None:
    catalog = {"DARTS_SOURCE_ENDPOINT": server.endpoint, "DARTS_CDSE_URL": serve(200).url}
    findings = doctor(offline=False, **catalog, **keys)
    assert findings["ok"]
    assert re.match(r"ok: the keys in AWS_ACCESS_KEY_ID, to 127.0.0.1:\d+, are valid", findings["keys to scenes"])
    findings = doctor(offline=False, **{**keys, "AWS_SECRET_ACCESS_KEY": SECRET})
    assert not findings["ok"]
    assert "have a wrong secret (HTTP 403 SignatureDoesNotMatch)" in findings["keys to scenes"]
    findings = doctor(**{**keys, "AWS_SECRET_ACCESS_KEY": SECRET})
    assert findings["ok"]
    assert "(not tested: offline)" in findings["keys to scenes"]
    findings = doctor(DARTS_SOURCE_PROFILE="absent")
    assert not findings["ok"]
    assert "The config profile (absent) could not be found" in findings["keys to scenes"]


def test_services(doctor: Doctor, serve: Callable[..., Service]) -> None:
    up, down, gone = serve(200).url, serve(503).url, serve(404).url
    findings = doctor(offline=False, DARTS_EARTH_SEARCH_URL=up, DARTS_ARCTICDEM=down)
    assert findings["catalog (earth_search)"] == f"ok: {up}: HTTP 200"
    assert findings["arcticdem"].startswith(f"fail: {down}: HTTP 503")
    assert not findings["ok"]
    assert "clock" not in findings
    findings = doctor(offline=False, DARTS_ARCTICDEM=gone)
    assert findings["arcticdem"] == f"warn: {gone}: HTTP 404 Check the URL."
    assert findings["ok"]
    late = serve(200, ahead=1200).url
    assert re.search(
        "^warn: the clock of this machine is (19|20) minutes slow",
        doctor(offline=False, DARTS_EARTH_SEARCH_URL=late, DARTS_ARCTICDEM=late)["clock"],
    )
    findings = doctor(offline=False, DARTS_EARTH_SEARCH_URL=f"http://user:{SECRET}@127.0.0.1:9")
    assert "fail: http://***@127.0.0.1:9: no connection" in findings["catalog (earth_search)"]


@pytest.fixture(scope="module")
def earth_engine() -> Iterator[EarthEngineServer]:
    with serving_earth_engine({}) as server:
        yield server


def test_earth_engine(
    doctor: Doctor, earth_engine: EarthEngineServer, home: Path, monkeypatch: pytest.MonkeyPatch,
    serve: Callable[..., Service],
) -> None:  # fmt: skip
    monkeypatch.delenv("DARTS_TCVIS")
    catalog = serve(200).url
    findings = doctor(offline=False, DARTS_EARTH_SEARCH_URL=catalog)
    assert not findings["ok"]
    assert findings["Earth Engine"].startswith(
        "fail: Earth Engine: there are no credentials; set DARTS_EARTH_ENGINE_KEY_F"
    )
    assert doctor()["Earth Engine"].startswith("warn: "), "offline, what is filled needs none"
    (home / "key.json").write_text(json.dumps(earth_engine.key()))
    where = {"DARTS_EARTH_ENGINE_KEY_FILE": str(home / "key.json"), "DARTS_EARTH_ENGINE_URL": earth_engine.url}
    try:
        findings = doctor(offline=False, **where)
        assert findings["ok"]
        assert findings["Earth Engine"] == f"ok: a service account for project {PROJECT}, at {earth_engine.url}"
    finally:
        ee.Reset()
    assert doctor()["Earth Engine"] == f"ok: a service account for project {PROJECT} (not tested: offline)"
    (home / "key.json").write_text(json.dumps(earth_engine.key(client_email="nobody@example.com")))
    findings = doctor(offline=False)
    assert not findings["ok"]
    assert findings["Earth Engine"].startswith("fail: ")
    assert "PRIVATE KEY" not in json.dumps(findings)


@pytest.mark.skipif(os.access("/dev/nvidia0", os.R_OK), reason="there is a GPU")
def test_a_gpu_that_is_not_there(doctor: Doctor) -> None:
    findings = doctor("--device", "cuda")
    assert not findings["ok"]
    assert findings["device"].startswith("fail: device 'cuda' does not exist: PyTorch can use 0 GPU(s)")
    assert "use --device cpu" in findings["device"]
    assert "device must be cpu, cuda, cuda:N, N or auto, not 'gpu'" in doctor("--device", "gpu")["device"]
    assert doctor("--device", "cpu")["device"] == "ok: no GPU: models run on the CPU"


def test_places_that_settings_name(doctor: Doctor, home: Path) -> None:
    (home / "inbox").mkdir()
    (home / "inbox" / "file.tif").touch()
    (home / "areas.toml").write_text(
        'version = 1\n[[areas]]\nname = "good"\ntiles = ["08WMB"]\n[[areas]]\nname = "bad"\naoi = "absent.gpkg"\n'
        '[[areas]]\nname = "odd"\n'
    )
    findings = doctor(DARTS_PLANET=f"{home / 'inbox'},{home / 'nowhere'}", DARTS_WATCH=str(home / "areas.toml"))
    assert not findings["ok"]
    here, nowhere = findings["Planet"].split(" | ")
    assert here == f"ok: {home / 'inbox'}: 1 files"
    assert nowhere.startswith(f"fail: {home / 'nowhere'}: the folder does not exist")
    assert "areas.toml, bad: " in findings["watched areas"]
    assert "absent.gpkg" in findings["watched areas"]
    assert "areas.toml, odd: " in findings["watched areas"]
    assert "ok: " + str(home / "areas.toml") + ": good" in findings["watched areas"]
    findings = doctor(DARTS_WATCH=str(home / "none.toml"), DARTS_TCVIS=str(home / "absent_{vintage}.tif"))
    assert "none.toml" in findings["watched areas"]
    assert findings["tcvis"].endswith("no such file Check DARTS_TCVIS.")
    assert findings["arcticdem"].startswith("ok: ")
    webhook = doctor(DARTS_NOTIFY_WEBHOOK=f"https://hooks.example/{SECRET}")["failed runs"]
    assert webhook == "ok: reported to the webhook at hooks.example"
