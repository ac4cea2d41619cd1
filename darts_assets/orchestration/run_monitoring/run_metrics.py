"""Metrics of an instance for Prometheus: queue, runs, steps, GPU seconds, pools and daemons.

`dagster-prometheus` only pushes metrics from inside of steps; the queue and lost steps are seen from outside.
"""

import datetime as dt
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import dagster as dg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from darts_assets.orchestration.core.pod_resources import NEEDS

_Status = dg.DagsterRunStatus
OPEN = (_Status.QUEUED, _Status.STARTING, _Status.STARTED, _Status.CANCELING)
ENDED = (_Status.SUCCESS, _Status.FAILURE, _Status.CANCELED)

_OVERLAP = dt.timedelta(minutes=5)
"""Runs that ended within it before the last look are looked at again: transactions end in another order."""


class _Steps:
    """Sums over steps, by name of the op."""

    def __init__(self) -> None:
        self.running: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.seconds: dict[str, float] = defaultdict(float)

    def add(self, instance: dg.DagsterInstance, run_id: str, run_end: float | None) -> None:
        """Steps of a run; one without an end in a run that has ended was lost."""
        for step in instance.get_run_step_stats(run_id):
            name = step.step_key.partition("[")[0]
            if step.start_time is None:
                continue
            if step.end_time is None and run_end is None:
                self.running[name] += 1
            else:
                self.ended[name, step.status.value.lower() if step.end_time and step.status else "lost"] += 1
            self.seconds[name] += max(0.0, (step.end_time or run_end or time.time()) - step.start_time)

    def with_steps_of(self, other: "_Steps") -> "_Steps":
        """The sum of both."""
        both = _Steps()
        both.running = self.running + other.running
        both.ended = self.ended + other.ended
        for name in self.seconds.keys() | other.seconds.keys():
            both.seconds[name] = self.seconds.get(name, 0) + other.seconds.get(name, 0)
        return both


class RunMetrics(Collector):
    """Reads the instance at each scrape; counters count what ends after the creation of this object."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._lock = threading.Lock()
        self._since = dt.datetime.now(dt.UTC)
        self._start = self._since
        self._seen: set[str] = set()
        self._runs: Counter[tuple[str, str]] = Counter()
        self._steps = _Steps()

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        with self._lock:
            self._count_ended_runs()
            of_open = _Steps()
            runs = GaugeMetricFamily("darts_runs", "Runs by status", labels=["status"])
            for status in OPEN:
                filters = dg.RunsFilter(statuses=[status])
                runs.add_metric([status.value.lower()], self._instance.get_runs_count(filters))
                if status is _Status.QUEUED:  # there may be thousands
                    yield _age(self._instance.get_run_records(filters, limit=1, ascending=True))
                else:
                    for record in self._instance.get_run_records(filters):
                        of_open.add(self._instance, record.dagster_run.run_id, None)
            yield runs
            ended = CounterMetricFamily("darts_runs_ended", "Ended runs", labels=["dagster_job", "status"])
            for labels, number in self._runs.items():
                ended.add_metric(labels, number)
            yield ended
            yield from _of_steps(self._steps.with_steps_of(of_open))
            yield self._pools()
            yield self._daemons()

    def _count_ended_runs(self) -> None:
        filters = dg.RunsFilter(statuses=list(ENDED), updated_after=self._since - _OVERLAP)
        seen, self._seen = self._seen, set()
        for record in self._instance.get_run_records(filters):
            self._since = max(self._since, record.update_timestamp)
            run = record.dagster_run
            self._seen.add(run.run_id)
            if run.run_id in seen or record.end_time is None or record.end_time < self._start.timestamp():
                continue
            self._runs[run.job_name, run.status.value.lower()] += 1
            self._steps.add(self._instance, run.run_id, record.end_time)

    def _pools(self) -> Metric:
        slots = GaugeMetricFamily(
            "darts_pool_slots", "Slots of pools: limit, claimed, waiting", labels=["pool", "state"]
        )
        storage = self._instance.event_log_storage
        if storage.supports_global_concurrency_limits:
            for pool in sorted(storage.get_concurrency_keys()):
                info = storage.get_concurrency_info(pool)
                slots.add_metric([pool, "limit"], info.slot_count)
                slots.add_metric([pool, "claimed"], info.active_slot_count)
                slots.add_metric([pool, "waiting"], info.pending_step_count)
        return slots

    def _daemons(self) -> Metric:
        healthy = GaugeMetricFamily("darts_daemon_healthy", "1 if the daemon has a recent heartbeat", labels=["daemon"])
        for name, status in self._instance.get_daemon_statuses().items():
            if status.required:
                healthy.add_metric([name.lower()], float(bool(status.healthy)))
        return healthy


def _age(oldest: Sequence[dg.RunRecord]) -> Metric:
    seconds = (dt.datetime.now(dt.UTC) - oldest[0].create_timestamp).total_seconds() if oldest else 0.0
    return GaugeMetricFamily("darts_queue_oldest_seconds", "Age of the oldest queued run", value=seconds)


def _of_steps(steps: _Steps) -> Iterator[Metric]:
    running = GaugeMetricFamily("darts_steps_running", "Running steps", labels=["step"])
    for name, number in steps.running.items():
        running.add_metric([name], number)
    yield running
    ended = CounterMetricFamily("darts_steps_ended", "Ended steps; lost ones left no result", labels=["step", "status"])
    for labels, number in steps.ended.items():
        ended.add_metric(labels, number)
    yield ended
    seconds = CounterMetricFamily("darts_step_seconds", "Seconds of steps", labels=["step"])
    gpu = CounterMetricFamily("darts_gpu_seconds", "Seconds of steps that request a GPU", labels=["step"])
    for name, value in steps.seconds.items():
        seconds.add_metric([name], value)
        needs = NEEDS.get(name.rpartition("__")[2])
        if needs and needs.gpu:
            gpu.add_metric([name], value)
    yield seconds
    yield gpu
