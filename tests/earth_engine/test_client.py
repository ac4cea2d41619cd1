"""Sessions and requests of the real client library against a local Earth Engine: credentials, retries, last words."""

import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ee
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.earth_engine import EarthEngine, EarthEngineError, EarthEngineOptions
from darts_assets.earth_engine.auth import find_credentials
from darts_assets.errors import SettingsError, SourceUnavailableError
from darts_assets.remote import retry
from tests.servers.earth_engine.expressions import Image
from tests.servers.earth_engine.server import PROJECT, SUBJECT_TOKEN, TOO_MANY, EarthEngineServer, Fault, serving

BOX = GeoBox((2, 3), Affine(0.5, 0, 10, 0, -0.5, 70), "EPSG:4326")
NORTH = Image(
    ("north",),
    "uint8",
    lambda lon, lat: {"north": (lat.astype("uint8"), np.ones(lat.shape, bool))},
    lambda lon, lat: np.ones(lat.shape, bool),
)

Connect = Callable[..., EarthEngine]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials of the machine that runs the tests."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture(scope="module")
def service() -> Iterator[EarthEngineServer]:
    with serving({"places": (NORTH,)}) as server:
        yield server


@pytest.fixture
def server(service: EarthEngineServer) -> Iterator[EarthEngineServer]:
    service.forget()
    yield service
    ee.Reset()


@pytest.fixture
def key_file(server: EarthEngineServer, tmp_path: Path) -> Callable[..., str]:
    def write(**changes: Any) -> str:
        path = tmp_path / "key.json"
        path.write_text(json.dumps(server.key(**changes)))
        return str(path)

    return write


@pytest.fixture
def connect(server: EarthEngineServer, key_file: Callable[..., str]) -> Connect:
    def make(**options: Any) -> EarthEngine:
        with_key = {"url": server.url, "key_file": key_file()}
        return EarthEngine(EarthEngineOptions(**{**with_key, **options}))

    return make


def north(engine: EarthEngine) -> list[list[int]]:
    pixels = engine.pixels("the places", lambda ee: ee.ImageCollection("places").mosaic(), BOX)
    assert pixels.dtype.names == ("north",)
    return pixels["north"].tolist()


NORTHS = [[69] * 3] * 2


def test_pixels_come_on_the_grid(server: EarthEngineServer, connect: Connect) -> None:
    engine = connect()
    assert north(engine) == NORTHS
    assert north(engine) == NORTHS
    # One session: what the library asks for first, it asks for once.
    assert server.requests.calls == ["token", "discovery", "discovery", "algorithms", "computePixels", "computePixels"]
    assert server.requests.pixels[0]["grid"] == {
        "dimensions": {"width": 3, "height": 2},
        "affineTransform": {
            "scaleX": 0.5, "shearX": 0, "translateX": 10, "shearY": 0, "scaleY": -0.5, "translateY": 70,
        },
        "crsCode": "EPSG:4326",
    }  # fmt: skip


def test_threads_share_a_session(server: EarthEngineServer, connect: Connect) -> None:
    engine = connect()
    server.fail(*[Fault(wait=threading.Barrier(8, timeout=30).wait)] * 8)  # answers come once all eight are there
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: north(engine), range(8))) == [NORTHS] * 8
    assert (server.requests.count("algorithms"), server.requests.count("computePixels")) == (1, 8)
    assert server.requests.most_at_once == 8


def test_a_token_that_has_expired_is_renewed(server: EarthEngineServer, connect: Connect) -> None:
    engine = connect()
    north(engine)
    server.tokens.clear()
    assert north(engine) == NORTHS
    assert server.requests.count("token") == 2


@pytest.mark.parametrize(
    "fault",
    [
        TOO_MANY,
        Fault(500, "INTERNAL", "An internal error has occurred"),
        Fault(503, body=b"<html>upstream connect error</html>"),
        Fault(400, "INVALID_ARGUMENT", "Too many concurrent aggregations."),
        Fault(403, "PERMISSION_DENIED", "Quota exceeded for quota metric 'Number of requests'."),
        Fault(cut=True),
    ],
    ids=["429", "500", "503 of a proxy", "400 quota", "403 quota", "cut"],
)
def test_what_passes_is_tried_again(server: EarthEngineServer, connect: Connect, fault: Fault) -> None:
    server.fail(fault, fault)
    assert north(connect()) == NORTHS
    assert server.requests.count("computePixels") == 3


def test_an_answer_that_does_not_come_is_asked_for_again(server: EarthEngineServer, connect: Connect) -> None:
    over = threading.Event()
    server.fail(Fault(wait=over.wait))
    try:
        assert north(connect(timeout=1.5)) == NORTHS
    finally:
        over.set()
    assert server.requests.count("computePixels") == 2


@pytest.mark.parametrize("call", ["token", "discovery", "algorithms"])
def test_a_session_that_fails_to_open_is_opened_again(server: EarthEngineServer, connect: Connect, call: str) -> None:
    fault = Fault(429, "RESOURCE_EXHAUSTED", "Quota exceeded.") if call != "token" else Fault(cut=True)
    server.fail(fault, fault, call=call)
    assert north(connect()) == NORTHS
    assert server.requests.count("computePixels") == 1


@pytest.mark.parametrize("call", ["computePixels", "algorithms"])
def test_the_last_words_after_bounded_attempts(server: EarthEngineServer, connect: Connect, call: str) -> None:
    server.fail(TOO_MANY, call=call, always=True)
    with pytest.raises(SourceUnavailableError) as raised:
        north(connect())
    assert str(raised.value) == (
        "Earth Engine, the places: Quota exceeded for quota metric 'Number of read requests' of service 'earthengine'. "
        "(HTTP 429); given up after 8 attempts"
    )
    assert server.requests.count(call) == 8


def test_nobody_answers(connect: Connect) -> None:
    with pytest.raises(
        SourceUnavailableError,
        match=r"the places: .*refused the connection; given up after 1 attempt\. Check",
    ):
        north(connect(url="http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("retry_after", "words"),
    [
        ("1", "attempt 2 of 8 follows in 1 s"),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "attempt 2 of 8 follows in 0 s"),
        ("soon", "attempt 2 of 8 follows in 0 s"),
    ],
)
def test_the_service_says_how_long_to_wait(
    server: EarthEngineServer, connect: Connect, caplog: pytest.LogCaptureFixture, retry_after: str, words: str
) -> None:
    server.fail(Fault(429, "RESOURCE_EXHAUSTED", "Slow down.", {"Retry-After": retry_after}))
    assert north(connect()) == NORTHS
    assert f"Earth Engine, the places: Slow down. (HTTP 429); {words}" in caplog.text


@pytest.mark.parametrize(
    "fault",
    [
        Fault(400, "INVALID_ARGUMENT", "Image.select: no."),
        Fault(403, "PERMISSION_DENIED", "Permission denied."),
        Fault(404, "NOT_FOUND", "Not there."),
    ],
)
def test_what_is_refused_is_not_tried_again(server: EarthEngineServer, connect: Connect, fault: Fault) -> None:
    server.fail(fault, always=True)
    with pytest.raises(EarthEngineError) as raised:
        north(connect())
    assert str(raised.value) == f"Earth Engine refuses the places: {fault.message} (HTTP {fault.code})"
    assert raised.value.status == fault.code
    assert server.requests.count("computePixels") == 1


def test_a_project_that_may_not_be_used_is_a_matter_of_settings(server: EarthEngineServer, connect: Connect) -> None:
    with pytest.raises(SettingsError, match=r"permission to use project other.*DARTS_EARTH_ENGINE_PROJECT"):
        north(connect(project="other"))
    assert server.requests.count("algorithms") == 1
    assert north(connect()) == NORTHS  # nothing is left of the session that did not open


def test_another_service_is_a_matter_of_settings(connect: Connect, server: EarthEngineServer) -> None:
    with pytest.raises(SettingsError, match=r"'earthengine' is not an http\(s\) URL; see DARTS_EARTH_ENGINE_URL"):
        north(connect(url="earthengine"))
    with pytest.raises(SettingsError, match=rf"project {PROJECT} at {server.url}/elsewhere.*DARTS_EARTH_ENGINE_URL"):
        north(connect(url=f"{server.url}/elsewhere"))


def test_a_process_has_one_session(connect: Connect) -> None:
    north(connect())
    other = connect(project=PROJECT)
    with pytest.raises(SettingsError, match="initialized in this process with other settings"):
        north(other)
    ee.Reset()
    assert north(other) == NORTHS


def test_errors_of_the_request_itself_pass_unchanged(connect: Connect) -> None:
    with pytest.raises(ZeroDivisionError):
        connect().call("nothing", lambda ee: 1 / 0)


def test_credentials_of_the_environment(
    server: EarthEngineServer, connect: Connect, key_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", key_file())
    assert north(connect(key_file=None)) == NORTHS
    assert server.requests.count("token") == 1


def test_the_key_of_the_settings_comes_first(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    assert north(connect()) == NORTHS
    with pytest.raises(SettingsError, match=r"absent\.json was not found\.; see GOOGLE_APPLICATION_CREDENTIALS"):
        find_credentials(EarthEngineOptions())


def test_workload_identity(
    server: EarthEngineServer, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text(SUBJECT_TOKEN)
    configuration = tmp_path / "identity.json"
    configuration.write_text(json.dumps(server.workload_identity(str(tmp_path / "token"))))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(configuration))
    with pytest.raises(SettingsError, match="have no project; set DARTS_EARTH_ENGINE_PROJECT"):
        north(connect(key_file=None))
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)
    assert north(connect(key_file=None)) == NORTHS
    assert (server.requests.count("exchange"), server.requests.count("token")) == (1, 0)


def test_credentials_that_a_user_has_stored(tmp_path: Path) -> None:
    path = tmp_path / ".config/earthengine/credentials"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"refresh_token": "of-a-user", "project": "of-a-user", "client_id": "1"}))
    credentials, project = find_credentials(EarthEngineOptions())
    assert (credentials.refresh_token, project) == ("of-a-user", "of-a-user")
    assert find_credentials(EarthEngineOptions(project="mine"))[1] == "mine"
    for damaged in ("{}", "nothing"):
        path.write_text(damaged)
        with pytest.raises(SettingsError, match="credentials cannot be used; run `earthengine authenticate --force`"):
            find_credentials(EarthEngineOptions())


def test_no_credentials() -> None:
    with pytest.raises(SettingsError) as raised:
        find_credentials(EarthEngineOptions(project=PROJECT))
    assert str(raised.value) == (
        "Earth Engine: there are no credentials; set DARTS_EARTH_ENGINE_KEY_FILE or GOOGLE_APPLICATION_CREDENTIALS "
        "to the JSON key of a service account, or run `earthengine authenticate`"
    )


def test_no_project(key_file: Callable[..., str]) -> None:
    with pytest.raises(SettingsError, match="have no project; set DARTS_EARTH_ENGINE_PROJECT"):
        find_credentials(EarthEngineOptions(key_file=key_file(project_id=None)))
    assert find_credentials(EarthEngineOptions(key_file=key_file()))[1] == PROJECT


@pytest.mark.parametrize("damage", ["key", "end", "fields"])
def test_a_damaged_key_is_named_and_not_shown(server: EarthEngineServer, tmp_path: Path, damage: str) -> None:
    secret = "c2VjcmV0" * 8
    key = server.key(private_key=f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n")
    path = tmp_path / "key.json"
    content = {"key": json.dumps(key), "end": json.dumps(key)[:-9], "fields": json.dumps({"private_key": secret})}
    path.write_text(content[damage])
    with pytest.raises(SettingsError, match=rf"{path} is not the JSON key of a service account") as raised:
        find_credentials(EarthEngineOptions(key_file=str(path)))
    assert secret not in "".join(traceback.format_exception(raised.value))


def test_an_absent_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"{tmp_path}/key\.json cannot be read: No such file"):
        find_credentials(EarthEngineOptions(key_file=str(tmp_path / "key.json")))


def test_a_key_of_somebody_else(server: EarthEngineServer, connect: Connect, key_file: Callable[..., str]) -> None:
    options = {"key_file": key_file(client_email=f"nobody@{PROJECT}.iam.gserviceaccount.com")}
    with pytest.raises(SettingsError, match=r"the credentials are refused: invalid_grant: nobody@.* may not read"):
        north(EarthEngine(EarthEngineOptions(url=server.url, **options)))
    assert (server.requests.count("token"), server.requests.count("computePixels")) == (1, 0)


def test_no_secret_is_logged_or_raised(
    server: EarthEngineServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = connect()
    said = []
    server.fail(TOO_MANY, Fault(cut=True))
    north(engine)
    for fault in (TOO_MANY, Fault(403, "PERMISSION_DENIED", "No."), Fault(cut=True)):
        server.fail(fault, always=True)
        with pytest.raises((SourceUnavailableError, EarthEngineError)) as raised:
            north(engine)
        said += traceback.format_exception(raised.value)
    secrets = {*server.key()["private_key"].splitlines()[1:-1], *server.tokens}
    text = "".join(said) + caplog.text + repr(engine.options)
    assert "computePixels" in text  # the library's own log is in there
    assert not [secret for secret in secrets if secret in text]


def test_no_other_host_is_asked(server: EarthEngineServer, key_file: Callable[..., str], tmp_path: Path) -> None:
    """In a process of its own: `ee.Initialize` would ask a host of Google's, whatever its url, with no timeout."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "hosts = set()\n"
        "def watch(event, args):\n"
        "    if event == 'socket.getaddrinfo': hosts.add(args[0])\n"
        "    if event == 'socket.connect': hosts.add(args[1][0])\n"
        "sys.addaudithook(watch)\n"
        "from darts_assets.earth_engine import EarthEngine, EarthEngineOptions\n"
        "from odc.geo.geobox import GeoBox\n"
        f"engine = EarthEngine(EarthEngineOptions(url={server.url!r}, key_file={key_file()!r}))\n"
        "box = GeoBox.from_bbox((10, 69, 11, 70), 'EPSG:4326', shape=(2, 2))\n"
        "print(engine.pixels('x', lambda ee: ee.ImageCollection('places').mosaic(), box)['north'].tolist(), hosts)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[[69, 69], [69, 69]] {'127.0.0.1'}"
    assert done.stderr == ""
