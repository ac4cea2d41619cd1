"""An overlay of `k8s/` installed in the tests' own cluster: what is shipped is what runs.

What a site edits is edited: where PostgreSQL and the object store are, secrets, the sources of data. What is for the
tests only is all in `_edited`: ports, a file where pods have a token, and how long things are waited for. The daemon's
first container is left out, being a few more processes (`tests/k8s/test_instance.py` runs it): its limits of pools are
set here.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests
import yaml
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from darts_assets.settings import Settings
from tests.e2e.backfills import request_backfill
from tests.e2e.harness import Site
from tests.servers.kubernetes.api import kubernetes_api
from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.pods import Pod
from tests.servers.postgres.cluster import postgres

K8S = Path(__file__).parents[2] / "k8s"

MONITORING = {
    "poll_interval_seconds": 2,  # 60
    "cancel_timeout_seconds": 20,  # 180
    "free_slots_after_run_end_seconds": 2,  # 300
}
"""Of `run_monitoring`, beside what is shipped."""

SHIPPED_PORTS = {"darts-code": "4000", "dagster-webserver": "3000"}

CANCEL = """
mutation Cancel($run: String!) { terminateRuns(runIds: [$run], terminatePolicy: SAFE_TERMINATE) {
  ... on TerminateRunsResult { terminateRunResults { __typename ... on TerminateRunFailure { message } } }
} }
"""

LAUNCH = """
mutation Launch($asked: ExecutionParams!) { launchRun(executionParams: $asked) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } }
} }
"""

NOT_FINISHED = [status for status in dg.DagsterRunStatus if status not in FINISHED_STATUSES]


def render(overlay: str, components: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """The manifests of an overlay with components; the test is skipped where nothing renders them."""
    tools = {"kubectl": ["kubectl", "kustomize"], "kustomize": ["kustomize", "build"]}
    command = next((words for tool, words in tools.items() if shutil.which(tool)), None)
    if command is None:
        pytest.skip("neither kubectl nor kustomize on this machine")
    shipped = os.path.relpath(K8S, folder)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [f"{shipped}/{overlay}"], "components": [f"{shipped}/{name}" for name in components],
    }  # fmt: skip
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


@dataclass
class Installation:
    """Dagster's daemon and our code location in a cluster; its webserver, where it is needed.

    Attributes:
        cluster: where they are.
        site: its store and its instance, as seen from outside.
        patience: seconds that anything is waited for.
        ui: address of the webserver, once it is started.
        daemon: Dagster's daemon.
    """

    cluster: Cluster
    site: Site
    patience: float
    ui: str
    daemon: Pod | None = None

    @classmethod
    @contextmanager
    def of(
        cls,
        overlay: str,
        *components: str,
        folder: Path,
        secrets: Mapping[str, str],
        max_runs: int,
        start_timeout: int,
        patience: float,
        **settings: str,
    ) -> "Iterator[Installation]":
        """An installation in a new folder.

        Args:
            overlay: below `k8s`.
            components: more of `k8s`, as a site adds them to an overlay.
            folder: of everything that it leaves on this machine.
            secrets: the data of `darts-secrets`.
            max_runs: at once; what is shipped is for more than two cores.
            start_timeout: seconds after which a Job that has not started is given up; 1800 are shipped.
            patience: seconds that anything is waited for.
            settings: of the site, by the names of environment variables.
        """
        folder.mkdir()
        manifests = render(overlay, components, folder)
        with ExitStack() as stack:
            free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
            database, *servers = (port.getsockname()[1] for port in free)
            for port in free:
                port.close()
            ports = dict(zip(SHIPPED_PORTS, servers, strict=True))
            stack.enter_context(postgres(folder, database, user="dagster", database="dagster"))
            places = {"DAGSTER_PG_HOST": "127.0.0.1", "DAGSTER_PG_PORT": str(database), **settings}
            edited = [
                *(_edited(each, places, ports, max_runs, start_timeout) for each in manifests),
                *_secrets(secrets),
            ]
            image = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}", "PYTHONUNBUFFERED": "1"}
            image |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}  # of a second checkout
            cluster = stack.enter_context(kubernetes_api(folder, edited, image))
            instance = stack.enter_context(dg.DagsterInstance.from_config(str(_outside(folder, edited, database))))
            for pool, limit in _pools(manifests):
                instance.event_log_storage.set_concurrency_slots(pool, limit)
            (configured,) = [m["data"] for m in edited if m["metadata"]["name"] == "darts-settings"]
            claim = folder / "volumes" / "darts-store"
            store = configured["DARTS_STORE"].replace("/data", str(claim))
            fields = {
                name.removeprefix("DARTS_").lower(): value for name, value in settings.items() if "DARTS_" in name
            }
            site = Site(folder, Settings(**{**fields, "store": store}), instance)
            yield cls(cluster, site, patience, f"http://127.0.0.1:{ports['dagster-webserver']}")

    def start(self) -> None:
        """Start the code location and, when it answers, the daemon."""
        code = self.cluster.deploy("darts-code")
        self.wait(lambda: "Started Dagster code server" in code.lines())
        self.daemon = self.cluster.deploy("dagster-daemon")

    def backfill(self, scenes: Sequence[str], *steps: str, run_config: Mapping[str, Any] | None = None) -> str:
        """Ask for a backfill of steps of the chain; the daemon does it."""
        keys = [self.site.family.key(step) for step in steps]
        graph = self.site.defs.resolve_asset_graph()
        return request_backfill(self.site.instance, graph, keys, scenes, run_config).backfill_id

    def finish(self, *backfills: str) -> None:
        """Wait until backfills are done. Dagster looks at them twice a minute; when there is nothing else to wait for,
        its daemon is killed and started again here, which it must survive, and then looks at once.
        """

        def done() -> bool:
            assert self.daemon
            open_runs = self.site.instance.get_runs_count(dg.RunsFilter(statuses=NOT_FINISHED))
            if not open_runs and "completed iteration" in self.daemon.lines() and not self._all_done(backfills):
                self.restart_daemon()
            return self._all_done(backfills)

        self.wait(done)

    def restart_daemon(self) -> None:
        """Kill the daemon and start another."""
        assert self.daemon
        self.daemon.end()
        self.daemon = self.cluster.deploy("dagster-daemon")

    def start_ui(self) -> None:
        """Start the server of the UI and wait until it answers."""
        self.cluster.deploy("dagster-webserver")
        self.wait(self._ui_answers)

    def cancel(self, run_id: str) -> None:
        """Cancel a run in the UI, whose server has been started."""
        (result,) = self._ask(CANCEL, run=run_id)["terminateRuns"]["terminateRunResults"]
        assert result["__typename"] == "TerminateRunSuccess", result

    def launch(self, job: str, ops: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Launch a job with the config of its ops in the UI; returns the id of the run."""
        asked = {
            "selector": {
                "repositoryLocationName": "darts_assets", "repositoryName": "__repository__", "jobName": job,
            },
            "runConfigData": {"ops": {name: {"config": config} for name, config in ops.items()}},
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }  # fmt: skip
        result = self._ask(LAUNCH, asked=asked)["launchRun"]
        assert result["__typename"] == "LaunchRunSuccess", result
        return str(result["run"]["runId"])

    def _ask(self, query: str, **variables: Any) -> Any:
        asked = {"query": query, "variables": variables}
        answer = requests.post(f"{self.ui}/graphql", json=asked, timeout=300).json()
        assert "data" in answer, answer
        return answer["data"]

    def _ui_answers(self) -> bool:
        try:
            return requests.get(f"{self.ui}/server_info", timeout=5).ok
        except requests.ConnectionError:
            return False

    def _all_done(self, backfills: Sequence[str]) -> bool:
        states = [self.site.instance.get_backfill(each) for each in backfills]
        return not any(each and each.status is BulkActionStatus.REQUESTED for each in states)

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait; at the end of patience the test fails with the last lines of what runs."""
        end = time.monotonic() + self.patience
        while not until():
            if time.monotonic() > end:
                running = list(self.cluster.pods.values())
                pytest.fail("\n".join(f"--- {pod.name} ({pod.phase})\n{pod.lines(40)}" for pod in running))
            time.sleep(0.2)

    def pods(self, component: str) -> list[Pod]:
        """The pods that there ever were of a kind: `run_worker` or `step_worker`."""
        return [pod for pod in self.cluster.history if pod.labels.get("app.kubernetes.io/component") == component]


def _edited(
    manifest: dict[str, Any], settings: Mapping[str, str], ports: Mapping[str, int], max_runs: int, start_timeout: int
) -> dict[str, Any]:
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if (kind, name) == ("ConfigMap", "darts-settings"):
        manifest["data"] |= settings
    elif (kind, name) == ("ConfigMap", "dagster-instance"):
        instance = yaml.safe_load(manifest["data"]["dagster.yaml"])
        instance["run_launcher"]["config"]["load_incluster_config"] = False
        instance["run_coordinator"]["config"] = {"dequeue_interval_seconds": 1}
        instance["concurrency"]["runs"]["max_concurrent_runs"] = max_runs
        instance["run_monitoring"] |= {**MONITORING, "start_timeout_seconds": start_timeout}
        manifest["data"]["dagster.yaml"] = yaml.safe_dump(instance)
    elif (kind, name) == ("ConfigMap", "dagster-workspace"):
        workspace = yaml.safe_load(manifest["data"]["workspace.yaml"])
        workspace["load_from"][0]["grpc_server"] |= {"host": "127.0.0.1", "port": ports["darts-code"]}
        manifest["data"]["workspace.yaml"] = yaml.safe_dump(workspace)
    elif kind == "Deployment" and name in ports:
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        container["args"] = [str(ports[name]) if word == SHIPPED_PORTS[name] else word for word in container["args"]]
    return manifest


def _pools(manifests: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """The pools and their limits, as the daemon's first container sets them."""
    (settings,) = [m["data"] for m in manifests if m["metadata"]["name"] == "darts-settings"]
    for name, limit in settings.items():
        if name.startswith("DAGSTER_POOL_"):
            yield name.removeprefix("DAGSTER_POOL_"), int(limit)


def _secrets(secrets: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for name, data in (("darts-secrets", secrets), ("dagster-postgresql-secret", {"postgresql-password": "secret"})):
        yield {"kind": "Secret", "metadata": {"name": name}, "stringData": dict(data)}


def _outside(folder: Path, manifests: Sequence[dict[str, Any]], port: int) -> Path:
    """A `DAGSTER_HOME` for the tests' own look at the same database."""
    home = folder / "outside"
    home.mkdir()
    database = {
        "scheme": "postgresql+psycopg2", "hostname": "127.0.0.1", "port": port,
        "db_name": "dagster", "username": "dagster", "password": "secret",
    }  # fmt: skip
    content = {"storage": {"postgres": {"postgres_db": database}}, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_text(yaml.safe_dump(content))
    return home
