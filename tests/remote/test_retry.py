"""The retry policy: how often, how long, and with which last message."""

import re
import socket
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest
import requests
import tenacity.nap

from darts_assets.cubes._raster import with_raster
from darts_assets.errors import RasterError, SourceUnavailableError
from darts_assets.remote import retry
from darts_assets.remote.byte_reader import read_bytes
from darts_assets.remote.retry import EARTH_ENGINE, TransientError, connection_failure, retry_after, with_retries
from darts_assets.remote.stac_client import RateLimitedStacIO

PACKAGE = Path(retry.__file__).parents[1]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits, none of which is waited for."""
    waits: list[float] = []
    monkeypatch.setattr(tenacity.nap.time, "sleep", waits.append)
    return waits


def failing(*failures: TransientError) -> Callable[[], str]:
    """An attempt with these failures, then a result."""
    left = list(failures)

    def attempt() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return attempt


def test_backoff_is_random_and_doubles(slept: list[float]) -> None:
    assert with_retries(failing(*[TransientError("busy")] * 7), "A request", policy=EARTH_ENGINE) == "done"
    assert all(0 <= wait <= most for wait, most in zip(slept, (2, 4, 8, 16, 32, 60, 60), strict=True))
    assert len(set(slept)) == 7


def test_the_last_message(slept: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SourceUnavailableError, match=r"^A request: busy; given up after 5 attempts$"):
        with_retries(failing(*[TransientError("busy")] * 5), "A request")
    assert len(slept) == 4
    assert re.fullmatch(r"A request: busy; attempt 2 of 5 follows in \d s", caplog.messages[0])
    with pytest.raises(RasterError, match="given up after 5"):
        with_retries(failing(*[TransientError("busy")] * 5), "A request", error=RasterError)


def test_retry_after_is_honoured_up_to_ten_minutes(slept: list[float]) -> None:
    assert with_retries(failing(TransientError("busy", retry_after=599)), "A request") == "done"
    assert slept == [599]
    with pytest.raises(SourceUnavailableError, match=r"after 1 attempt, because the service asks to wait 3600 s"):
        with_retries(failing(TransientError("busy", retry_after=3600)), "A request")


def test_no_attempt_begins_after_the_policy_s_seconds(slept: list[float]) -> None:
    patient = [TransientError("busy", retry_after=500)] * 3
    with pytest.raises(SourceUnavailableError, match=r"given up after 1 attempt"):
        with_retries(failing(*patient), "A request", policy=retry.RetryPolicy(attempts=8, seconds=400))


def test_other_errors_are_not_repeated(slept: list[float]) -> None:
    def attempt() -> None:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        with_retries(attempt, "A request")
    assert slept == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3), (None, 0), ("soon", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("-1", 0)],
)
def test_retry_after_headers(header: str | None, seconds: float) -> None:
    assert retry_after(header) == seconds


def test_retry_after_a_date() -> None:
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 61


def test_statuses() -> None:
    transient = {status for status in range(200, 600) if retry.is_transient_status(status)}
    assert transient == {408, 425, 429, *range(500, 600)} - {501}


def read_tile(url: str) -> None:
    with_raster(url, lambda source: source.read())


def read_document(url: str) -> None:
    RateLimitedStacIO().read_json(url)


@pytest.mark.parametrize("read", [read_bytes, read_tile, read_document])
def test_a_refused_connection_is_final_within_seconds(read: Callable[[str], object]) -> None:
    start = time.monotonic()
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1.* 9|127\.0\.0\.1:9") as raised:
        read("http://127.0.0.1:9/a.tif")
    assert 1 < time.monotonic() - start < 8
    assert "Check the URL, and the DNS, proxy and firewall settings of this machine" in str(raised.value)


@pytest.mark.parametrize("read", [read_bytes, read_document])
def test_an_unknown_host_is_final_within_seconds(
    read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    start = time.monotonic()
    with pytest.raises(
        SourceUnavailableError,
        match=r"the host name no-such-host\.invalid cannot be resolved; .* Check the URL",
    ):
        read("http://no-such-host.invalid/a.tif?sig=SECRET")
    assert time.monotonic() - start < 8


def test_a_slow_resolver_is_asked_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "UNREACHABLE_SECONDS", 0.2)
    attempts = []

    def attempt() -> None:
        attempts.append(time.monotonic())
        time.sleep(0.3)
        raise TransientError("unknown host", unreachable=True)

    monkeypatch.setattr(retry, "BACKOFF", (0.0, 0.0))
    with pytest.raises(SourceUnavailableError):
        with_retries(attempt, "A request")
    assert len(attempts) == 2


def test_a_signature_is_in_no_message() -> None:
    error = requests.ConnectionError("Max retries exceeded with url: /a.tif?sig=SECRET (Caused by ...)")
    assert "SECRET" not in str(connection_failure(error, "https://user:SECRET@host/a.tif?sig=SECRET", (1, 1)))
    timeout = connection_failure(requests.ReadTimeout(), "https://user:SECRET@host/a.tif?sig=SECRET", (1, 2))
    assert str(timeout) == "no response from host within 2 s"


def test_there_is_one_policy() -> None:
    """No other module repeats requests, or has numbers for it."""
    policy = re.compile(r"tenacity|\bRetry\(|Retrying|\bmax_retries\"|GDAL_HTTP_MAX_RETRY|\b_ATTEMPTS = |\b_BACKOFF")
    users = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if policy.search(path.read_text())}
    # The notifier posts within a sensor's tick, where no policy of minutes fits: urllib3 repeats for seconds.
    notifier = "orchestration/run_monitoring/failure_notifier.py"
    assert users == {"remote/retry.py", "remote/gdal_options.py", notifier}
