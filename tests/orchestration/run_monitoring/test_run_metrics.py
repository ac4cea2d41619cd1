"""Metrics of a real instance, scraped over HTTP."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import requests
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from darts_assets.orchestration.run_monitoring.run_metrics import RunMetrics


@dg.op
def sentinel2__segmentation() -> None:
    time.sleep(0.3)


@dg.op
def sentinel2__polygons() -> None:
    raise dg.Failure("no polygons", allow_retries=False)


@dg.job
def mapping() -> None:
    sentinel2__segmentation()


@dg.job
def failing() -> None:
    sentinel2__polygons()


@contextmanager
def served(instance: dg.DagsterInstance) -> Iterator[str]:
    registry = CollectorRegistry()
    registry.register(RunMetrics(instance))
    server, thread = start_http_server(0, "127.0.0.1", registry)
    yield f"http://127.0.0.1:{server.server_port}/metrics"
    server.shutdown()
    thread.join()


def scrape(url: str) -> dict[tuple[str, ...], float]:
    """Values by name of the metric and its labels' values, sorted by their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(requests.get(url, timeout=30).text)
        for sample in family.samples
    }


def test_runs_and_steps() -> None:
    with dg.DagsterInstance.local_temp() as instance:
        assert mapping.execute_in_process(instance=instance).success
        time.sleep(0.01)
        with served(instance) as url:
            before = scrape(url)
            assert ("darts_runs_ended_total", "mapping", "success") not in before, "it ended before"
            assert before["darts_runs", "queued"] == before["darts_queue_oldest_seconds",] == 0
            for _ in range(2):
                assert mapping.execute_in_process(instance=instance).success
            assert not failing.execute_in_process(instance=instance, raise_on_error=False).success
            location = GrpcServerCodeLocationOrigin("127.0.0.1", 4000, location_name="darts_assets")
            origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "darts"), "mapping")
            instance.create_run_for_job(
                mapping, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin, job_code_origin=None
            )
            instance.event_log_storage.set_concurrency_slots("gpu", 3)
            for _ in range(2):  # each run is counted once
                after = scrape(url)
                assert after["darts_runs_ended_total", "mapping", "success"] == 2
                assert after["darts_runs_ended_total", "failing", "failure"] == 1
                assert after["darts_steps_ended_total", "success", "sentinel2__segmentation"] == 2
                assert after["darts_steps_ended_total", "failure", "sentinel2__polygons"] == 1
                assert 0.6 <= after["darts_gpu_seconds_total", "sentinel2__segmentation"] < 3
                assert ("darts_gpu_seconds_total", "sentinel2__polygons") not in after
                assert after["darts_step_seconds_total", "sentinel2__polygons"] > 0
                assert after["darts_runs", "queued"] == 1
                assert 0 < after["darts_queue_oldest_seconds",] < 30
                assert after["darts_pool_slots", "gpu", "limit"] == 3
                assert after["darts_pool_slots", "gpu", "claimed"] == 0


def test_running_and_lost_steps() -> None:
    with dg.DagsterInstance.local_temp() as instance:
        collector = RunMetrics(instance)
        run = instance.create_run_for_job(mapping, status=dg.DagsterRunStatus.STARTED)
        start = dg.DagsterEvent(
            dg.DagsterEventType.STEP_START.value, "mapping", step_key="sentinel2__segmentation", message=""
        )
        instance.report_dagster_event(start, run.run_id)

        def values() -> dict[tuple[str, ...], float]:
            families = collector.collect()
            return {
                (s.name, *(value for _, value in sorted(s.labels.items()))): s.value
                for family in families
                for s in family.samples
            }

        running = values()
        assert running["darts_runs", "started"] == 1
        assert running["darts_steps_running", "sentinel2__segmentation"] == 1
        time.sleep(0.1)
        assert values()["darts_gpu_seconds_total", "sentinel2__segmentation"] >= 0.1, "also while it runs"
        instance.report_run_failed(run, "the pod is gone")
        lost = values()
        assert lost["darts_steps_ended_total", "lost", "sentinel2__segmentation"] == 1
        assert ("darts_steps_running", "sentinel2__segmentation") not in lost
