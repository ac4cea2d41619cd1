"""Notifications of failed runs: a run failure sensor, and the notifiers that it calls (log, webhook, custom)."""

import logging
from dataclasses import asdict, dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

import dagster as dg

from darts_assets.errors import DartsError, SettingsError
from darts_assets.orchestration.core.error_handling import failure_message, root_message
from darts_assets.redaction import link_base
from darts_assets.settings import Settings

SENSOR = "failed_runs"

_PARTITION, _FIRST, _LAST = (
    "dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
)  # fmt: skip
_RETRIED_STATUSES = frozenset({408, 425, 429, *range(500, 600)})
_LOGGERS_WITH_URLS = [logging.getLogger(f"urllib3.{name}") for name in ("connectionpool", "util.retry")]
_LONGEST_PAUSE = 5  # seconds between two requests, also where Retry-After asks for more


class NotifyError(DartsError):
    """A notification was not delivered; the message gives the service and the reason, without the webhook's URL."""


@dataclass(frozen=True)
class FailedRun:
    """Summary of a failed run.

    Attributes:
        run_id: Dagster run id.
        job: job name.
        partition: scene or chunk; `first...last` for a partition range; None for an unpartitioned run.
        step: the step that failed first; None if the run failed before its first step.
        error: reason, in one sentence.
        other_steps: further failed steps.
        link: URL of the run in Dagster's UI; None if the UI's URL is not configured.
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
        """The summary as one or two sentences."""
        where = f"{self.step} of {self.job}" if self.step else self.job
        of = f" for {self.partition}" if self.partition else ""
        others = f" {', '.join(self.other_steps)} failed as well." if self.other_steps else ""
        return f"{where} failed{of}: {self.error.rstrip('.')}.{others} {self.link or f'Run {self.run_id}'}"


class Notifier(Protocol):
    """Receives failed runs. Pass a custom one as `build_defs(notifier=...)`."""

    def notify(self, failed: FailedRun, log: logging.Logger) -> None:
        """Report a failed run; `log` is the sensor's logger.

        Raises:
            NotifyError: if the notification cannot be delivered; the sensor does not repeat it.
        """


@dataclass(frozen=True)
class LogNotifier:
    """Writes failed runs to the log of the sensor."""

    def notify(self, failed: FailedRun, log: logging.Logger) -> None:
        """Log an error."""
        log.error(failed.text)


@dataclass(frozen=True)
class WebhookNotifier:
    """Posts the fields of `FailedRun` as JSON, and `text`, which Slack, Mattermost and similar services display.

    Attributes:
        url: secret URL of the webhook.
        timeout: seconds for the connection and for the response. A tick reports up to five runs and lasts one minute.
        attempts: number of requests if the service is down or overloaded.
        pause: seconds before the second request, doubled for each further one; `Retry-After` replaces it. Both are
            limited to five seconds.
    """

    url: str = field(repr=False)
    timeout: float = 3.0
    attempts: int = 3
    pause: float = 0.5

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError("DARTS_NOTIFY_WEBHOOK is not a valid URL: expected https://...")

    @property
    def service(self) -> str:
        """Host name of the webhook, for messages."""
        return urlsplit(self.url).hostname or ""

    def notify(self, failed: FailedRun, log: logging.Logger) -> None:
        """Log the failed run, then post it.

        Raises:
            NotifyError: after the last attempt.
        """
        log.error(failed.text)
        reason = self._post(asdict(failed) | {"text": failed.text})
        if reason:
            raise NotifyError(f"{self.service} did not accept the notification of run {failed.run_id}: {reason}")
        log.info(f"{self.service} accepted the notification of run {failed.run_id}")

    def _post(self, body: dict[str, object]) -> str:
        """Post `body`; returns the reason of a failure, without the URL, or an empty string."""
        import urllib3

        retries = urllib3.Retry(
            total=self.attempts - 1,
            allowed_methods=None,  # a repeated notification does no harm
            status_forcelist=_RETRIED_STATUSES,
            raise_on_status=False,
            backoff_factor=self.pause,
            backoff_max=_LONGEST_PAUSE,
            retry_after_max=_LONGEST_PAUSE,
        )
        for logger in _LOGGERS_WITH_URLS:
            logger.addFilter(_drop)
        try:
            # A redirect is not followed: it would turn the POST into a GET.
            with urllib3.PoolManager(timeout=self.timeout, retries=retries) as http:
                status = http.request("POST", self.url, json=body, redirect=False).status
        except urllib3.exceptions.MaxRetryError as error:
            refused = isinstance(error.reason, urllib3.exceptions.NewConnectionError)  # also a ConnectTimeoutError
            timed_out = isinstance(error.reason, urllib3.exceptions.TimeoutError) and not refused
            return f"no response within {self.timeout:g} s" if timed_out else "no connection"
        except urllib3.exceptions.HTTPError as error:
            return type(error).__name__
        finally:
            for logger in _LOGGERS_WITH_URLS:
                logger.removeFilter(_drop)
        return "" if 200 <= status < 300 else f"HTTP {status}"


def _drop(record: logging.LogRecord) -> bool:
    return False


def build_notifier(current: Settings) -> Notifier:
    """The notifier of the settings: a webhook if one is set, else the log.

    Raises:
        SettingsError: if the webhook is not a valid URL.
    """
    return WebhookNotifier(current.notify_webhook.get_secret_value()) if current.notify_webhook else LogNotifier()


def build_failure_sensor(ui_url: str | None, *, running: bool, interval: int = 30) -> dg.SensorDefinition:
    """Sensor that reports each failed run of this code location once.

    Args:
        ui_url: base URL of Dagster's UI, for links.
        running: whether the sensor is on by default.
        interval: minimum number of seconds between two ticks.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.run_failure_sensor(
        name=SENSOR,
        minimum_interval_seconds=interval,
        default_status=status,
        monitor_all_code_locations=False,
        description="Reports failed runs to the log and, if set, to the webhook DARTS_NOTIFY_WEBHOOK.",
    )
    def failed_runs(context: dg.RunFailureSensorContext, notifier: dg.ResourceParam[Notifier]) -> None:
        notifier.notify(summarize_failure(context, ui_url), context.log)

    return failed_runs


def summarize_failure(context: dg.RunFailureSensorContext, ui_url: str | None) -> FailedRun:
    """Summary of the failed run of a sensor context."""
    run, steps = context.dagster_run, context.get_step_failure_events()
    ends = [run.tags[tag] for tag in (_FIRST, _LAST) if tag in run.tags]
    if steps:
        reason = failure_message(steps[0].step_failure_data)
    else:
        error = getattr(context.failure_event.event_specific_data, "error", None)
        reason = root_message(error) if error else (context.failure_event.message or "the run did not start")
    return FailedRun(
        run_id=run.run_id,
        job=run.job_name,
        partition=run.tags.get(_PARTITION) or "...".join(dict.fromkeys(ends)) or None,
        step=steps[0].step_key if steps else None,
        error=reason,
        other_steps=tuple(str(step.step_key) for step in steps[1:]),
        link=f"{link_base(ui_url)}/runs/{run.run_id}" if ui_url else None,
    )
