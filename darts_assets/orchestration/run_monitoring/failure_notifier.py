"""Telling somebody of failed runs: a sensor, and who is told. By default the log; a webhook, or what users bring."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import dagster as dg

from darts_assets.errors import DartsError, SettingsError
from darts_assets.orchestration.core.error_handling import failure_message, root_message
from darts_assets.settings import Settings

SENSOR = "failed_runs"

_PARTITION, _FIRST, _LAST = (
    "dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
)  # fmt: skip
_MOST_SECONDS_BETWEEN = 5.0
_SILENT = logging.getLogger("urllib3.connectionpool")  # for debugging, it logs each request with its URL
_MAY_PASS = {408, 425, 429}  # and all of 500 and above


class NotifyError(DartsError):
    """Somebody could not be told; the text says who, and why not, without a secret."""


@dataclass(frozen=True)
class FailedRun:
    """What is told of a run that failed.

    Attributes:
        run_id: of Dagster.
        job: its name.
        partition: scene or chunk; `first...last` of a range; None without.
        step: the step that failed first; None if the run did not come so far.
        error: why, in a sentence.
        other_steps: steps that failed as well.
        link: to the run in Dagster's UI, if that is known.
    """

    run_id: str
    job: str
    partition: str | None
    step: str | None
    error: str
    other_steps: tuple[str, ...] = ()
    link: str | None = None

    @property
    def text(self) -> str:
        """All of it in a sentence or two."""
        where = f"{self.step} of {self.job}" if self.step else self.job
        of = f" for {self.partition}" if self.partition else ""
        others = f" {', '.join(self.other_steps)} failed as well." if self.other_steps else ""
        return f"{where} failed{of}: {self.error.rstrip('.')}.{others} {self.link or f'Run {self.run_id}'}"


class Notifier(Protocol):
    """Tells somebody. Pass one of your own to `build_defs(notifier=...)`."""

    def notify(self, failed: FailedRun, log: logging.Logger) -> None:
        """Tell of a failed run; `log` is the sensor's.

        Raises:
            NotifyError: if that was not possible; the sensor does not try again.
        """


@dataclass(frozen=True)
class LogNotifier:
    """Tells the log of the sensor's ticks."""

    def notify(self, failed: FailedRun, log: logging.Logger) -> None:
        """Log an error."""
        log.error(failed.text)


@dataclass(frozen=True)
class WebhookNotifier:
    """Posts JSON: the fields of `FailedRun`, and `text`, which Slack, Mattermost and their like show.

    Attributes:
        url: a secret: whoever has it may post.
        timeout: seconds that a request may wait, for the connection and for the answer. A tick tells of five runs at
            most and has a minute.
        attempts: requests, if the service is not there or has too much to do.
        pause: seconds before the second request; each further pause is twice as long. `Retry-After` goes before it,
            up to five seconds.
    """

    url: str = field(repr=False)
    timeout: float = 3.0
    attempts: int = 3
    pause: float = 0.5

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError("the webhook (DARTS_NOTIFY_WEBHOOK) is no URL; https://... was expected")

    @property
    def service(self) -> str:
        """The service's name for messages."""
        return urlsplit(self.url).hostname or ""

    def notify(self, failed: FailedRun, log: logging.Logger) -> None:
        """Post, and log what was posted, so that it is not lost where nobody listens."""
        log.error(failed.text)
        body = {
            "text": failed.text,
            "run_id": failed.run_id,
            "job": failed.job,
            "partition": failed.partition,
            "step": failed.step,
            "error": failed.error,
            "other_steps": list(failed.other_steps),
            "link": failed.link,
        }
        pause, said = self.pause, ""
        for attempt in range(1, self.attempts + 1):
            said, again, asked = self._post(body)
            if not said:
                log.info(f"{self.service} was told of run {failed.run_id}")
                return
            log.warning(f"{self.service}, attempt {attempt} of {self.attempts}: {said}")
            if not again:
                break
            if attempt < self.attempts:
                time.sleep(min(asked if asked is not None else pause, _MOST_SECONDS_BETWEEN))
                pause *= 2
        raise NotifyError(f"{self.service} could not be told of run {failed.run_id}: {said}")

    def _post(self, body: dict[str, Any]) -> tuple[str, bool, float | None]:
        """What went wrong (empty: nothing), whether it may pass, and the seconds that the service asks to wait."""
        import requests

        _SILENT.addFilter(_no_debugging)
        try:
            # Redirections are not followed: they would turn the POST into a GET, which says nothing.
            answer = requests.post(self.url, json=body, timeout=self.timeout, allow_redirects=False, stream=True)
        except requests.Timeout:
            return f"no answer in {self.timeout:g} s", True, None
        except requests.ConnectionError:  # its words repeat the URL
            return "no connection", True, None
        except requests.RequestException as error:
            return type(error).__name__, False, None
        finally:
            _SILENT.removeFilter(_no_debugging)
        with answer:
            if 200 <= answer.status_code < 300:
                return "", False, None
            asked = answer.headers.get("Retry-After", "")
            again = answer.status_code >= 500 or answer.status_code in _MAY_PASS
            return f"HTTP {answer.status_code}", again, float(asked) if asked.isdigit() else None


def _no_debugging(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG


def build_notifier(current: Settings) -> Notifier:
    """Who is told by the settings.

    Raises:
        SettingsError: if the webhook is no URL.
    """
    return WebhookNotifier(current.notify_webhook.get_secret_value()) if current.notify_webhook else LogNotifier()


def build_failure_sensor(ui_url: str | None, *, running: bool, interval: int = 30) -> dg.SensorDefinition:
    """The sensor that tells of the failed runs of this code location, of each once.

    Args:
        ui_url: of Dagster's UI, for links.
        running: whether it runs until somebody stops it, instead of waiting to be started.
        interval: seconds between its ticks, at least.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name=SENSOR,
        minimum_interval_seconds=interval,
        default_status=status,
        monitor_all_code_locations=False,
        description="Tells of failed runs: the log, and the webhook (DARTS_NOTIFY_WEBHOOK) if there is one.",
    )
    def failed_runs(context: dg.RunFailureSensorContext, notifier: dg.ResourceParam[Notifier]) -> None:
        """Tell of one failed run."""
        notifier.notify(failed_run(context, ui_url), context.log)

    return failed_runs


def failed_run(context: dg.RunFailureSensorContext, ui_url: str | None) -> FailedRun:
    """What there is to tell of the run that a sensor looks at."""
    run, steps = context.dagster_run, context.get_step_failure_events()
    ends = [run.tags[tag] for tag in (_FIRST, _LAST) if tag in run.tags]
    if steps:
        error = failure_message(steps[0].step_failure_data)
    else:
        noted = getattr(context.failure_event.event_specific_data, "error", None)
        error = root_message(noted) if noted else (context.failure_event.message or "it did not begin")
    return FailedRun(
        run_id=run.run_id,
        job=run.job_name,
        partition=run.tags.get(_PARTITION) or "...".join(dict.fromkeys(ends)) or None,
        step=steps[0].step_key if steps else None,
        error=error,
        other_steps=tuple(str(step.step_key) for step in steps[1:]),
        link=f"{ui_url.rstrip('/')}/runs/{run.run_id}" if ui_url else None,
    )
