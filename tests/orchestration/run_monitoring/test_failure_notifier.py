"""Notifications of failed runs: a real sensor over real runs, and a webhook on a real server."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.errors import SettingsError
from darts_assets.orchestration.run_monitoring.failure_notifier import (
    SENSOR,
    FailedRun,
    LogNotifier,
    NotifyError,
    WebhookNotifier,
    build_failure_sensor,
)
from darts_assets.settings import Settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
FAILED = FailedRun("run-1", "sentinel2_chain", "SCENE", "sentinel2__raw_scene", "SourceUnavailableError: CDSE is down")
SCENES = dg.DynamicPartitionsDefinition(name="scene")


class Receiver:
    """A webhook server. Each response is a status, headers and a delay in seconds; the last one repeats."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], float]] = [(200, {}, 0)]
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(json.loads(body))
                receiver.times.append(time.monotonic())
                answers = receiver.answers
                status, headers, wait = answers.pop(0) if len(answers) > 1 else answers[0]
                time.sleep(wait)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/SECRETPATH?token=SECRETTOKEN"

    def notifier(self, **options: Any) -> WebhookNotifier:
        return WebhookNotifier(self.url, **{"timeout": 2.0, "pause": 0.05, **options})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    caplog.set_level(logging.DEBUG)
    return logging.getLogger("sensor")


def test_webhook_receives_the_summary(
    receiver: Receiver, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.notifier().notify(FAILED, log)
    (body,) = receiver.bodies
    assert body == {
        "text": "sentinel2__raw_scene of sentinel2_chain failed for SCENE: SourceUnavailableError: CDSE is down. "
        "Run run-1",
        "run_id": "run-1", "job": "sentinel2_chain", "partition": "SCENE", "step": "sentinel2__raw_scene",
        "error": "SourceUnavailableError: CDSE is down", "other_steps": [], "link": None,
    }  # fmt: skip
    assert body["text"] in caplog.messages, "also in the log"
    assert "127.0.0.1 accepted the notification of run run-1" in caplog.messages


def test_temporary_failures_are_retried(
    receiver: Receiver, log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [(503, {}, 0), (429, {"Retry-After": "1"}, 0), (204, {}, 0)]
    receiver.notifier().notify(FAILED, log)
    assert len(receiver.bodies) == 3
    assert receiver.times[2] - receiver.times[1] >= 1, "Retry-After"
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("answer", "requests", "words"),
    [
        ((500, {}, 0), 3, "127.0.0.1 did not accept the notification of run run-1: HTTP 500"),
        ((404, {}, 0), 1, "127.0.0.1 did not accept the notification of run run-1: HTTP 404"),
        ((302, {"Location": "/elsewhere"}, 0), 1, "127.0.0.1 did not accept the notification of run run-1: HTTP 302"),
        ((200, {}, 1.5), 3, "127.0.0.1 did not accept the notification of run run-1: no response within 0.3 s"),
    ],
    ids=["never", "gone", "moved", "slow"],
)
def test_the_last_word(
    receiver: Receiver, log: logging.Logger, caplog: pytest.LogCaptureFixture,
    answer: tuple[int, dict[str, str], float], requests: int, words: str,
) -> None:  # fmt: skip
    receiver.answers = [answer]
    started = time.monotonic()
    with pytest.raises(NotifyError) as raised:
        receiver.notifier(timeout=0.3 if answer[2] else 5.0).notify(FAILED, log)
    assert str(raised.value) == words
    assert time.monotonic() - started < 5
    assert len(receiver.bodies) == requests
    assert FAILED.text in caplog.messages
    assert "SECRET" not in caplog.text + repr(raised.value)


def test_refused_connection(receiver: Receiver, log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    receiver.server.server_close()
    with pytest.raises(
        NotifyError, match=r"127\.0\.0\.1 did not accept the notification of run run-1: no connection"
    ) as raised:
        receiver.notifier().notify(FAILED, log)
    assert raised.value.__context__ is None, "the library's error contains the URL"
    assert "SECRET" not in caplog.text + repr(receiver.notifier())


def test_invalid_webhook_url() -> None:
    for wrong in ("hooks.slack.com/SECRET", "ftp://SECRET", "https://"):
        with pytest.raises(SettingsError, match="DARTS_NOTIFY_WEBHOOK") as raised:
            WebhookNotifier(wrong)
        assert "SECRET" not in str(raised.value)


def test_notifier_of_settings_or_custom(monkeypatch: pytest.MonkeyPatch, log: logging.Logger) -> None:
    def built(**others: Any) -> tuple[Any, str]:
        current = Settings()
        assert "SECRET" not in repr(current)
        defs = build_defs(current, **others)
        (sensor,) = [sensor for sensor in defs.sensors or [] if sensor.name == SENSOR]
        return (defs.resources or {})["notifier"], sensor.default_status.value

    assert built() == (LogNotifier(), "STOPPED")
    monkeypatch.setenv("DARTS_NOTIFY_WEBHOOK", "https://hooks.example/SECRET")
    assert built() == (WebhookNotifier("https://hooks.example/SECRET"), "RUNNING")

    class Mail:
        def notify(self, failed: FailedRun, log: logging.Logger) -> None: ...

    mail = Mail()
    assert built(notifier=mail) == (mail, "RUNNING")


@dg.asset(partitions_def=SCENES)
def broken() -> None:
    raise dg.Failure("SceneError: no such scene.", allow_retries=False)


@dg.asset(partitions_def=SCENES, retry_policy=dg.RetryPolicy(max_retries=1))
def broken_too() -> None:
    raise ValueError("first line\nsecond line")


@dg.asset(partitions_def=SCENES, deps=[broken])
def after() -> None: ...


class Recorder:
    """A custom notifier."""

    def __init__(self) -> None:
        self.failed: list[FailedRun] = []

    def notify(self, failed: FailedRun, log: logging.Logger) -> None:
        self.failed.append(failed)
        if failed.partition == "a":
            raise NotifyError("not delivered")


def test_each_failed_run_is_reported_once() -> None:
    recorder, sensor = Recorder(), build_failure_sensor("https://dagster.example/", running=False)

    def tick(cursor: str | None) -> Any:
        with dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"notifier": recorder}, definitions=dg.Definitions()
        ) as context:
            return sensor.evaluate_tick(context)

    def run(scene: str, *assets: dg.AssetsDefinition) -> str:
        return dg.materialize(
            list(assets), instance=instance, partition_key=scene, raise_on_error=False, run_config=QUIET
        ).run_id  # fmt: skip

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("scene", ["a", "b", "c"])
        run("a", broken)
        begun = tick(None)
        assert recorder.failed == [], "runs before the start of the sensor are not reported"
        first, second = run("a", broken, after), run("b", broken_too, broken)
        run("c", after)
        looked = tick(begun.cursor)
        assert [(one.run_id, one.partition) for one in recorder.failed] == [(first, "a"), (second, "b")]
        one, two = recorder.failed
        assert (one.step, one.error, one.other_steps) == ("broken", "SceneError: no such scene.", ())
        assert one.link == f"https://dagster.example/runs/{first}"
        assert one.text == f"broken of {one.job} failed for a: SceneError: no such scene. {one.link}"
        assert {two.step, *two.other_steps} == {"broken", "broken_too"}
        assert two.error in ("SceneError: no such scene.", "ValueError: first line")
        errors = [reaction.error for reaction in looked.dagster_run_reactions]
        assert [bool(error) for error in errors] == [True, False]
        assert "not delivered" in str(errors[0])
        tick(looked.cursor)
        assert len(recorder.failed) == 2
