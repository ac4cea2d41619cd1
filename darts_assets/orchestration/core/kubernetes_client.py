"""Launcher and steps on Kubernetes for which an API server that does not answer is not a lost pod.

Dagster takes a refused connection while it looks at the pod of a run for a lost pod, starts a second one, and fails the
run whose next Job the recovering API server refuses (HTTP 403 until its authorizer knows the roles, 409 for a Job that
it created without an answer). Here, no answer means that a pod is still running; other requests are repeated for
minutes; a Job of the same name and labels is the own one.
"""

import json
import logging
import time
from typing import Any

import dagster as dg
import urllib3
from dagster_k8s.client import DagsterKubernetesClient, PatchedApiClient
from dagster_k8s.launcher import K8sRunLauncher
from kubernetes.client import BatchV1Api, CoreV1Api, V1JobStatus
from kubernetes.client.rest import ApiException, RESTResponse

from darts_assets.remote.retry import KUBERNETES, TransientError, is_transient_status, retry_after, with_retries

logger = logging.getLogger(__name__)

TIMEOUT = (5.0, 30.0)
"""Seconds to connect and to read, of requests without a timeout of their own."""

FORBIDDEN_SECONDS = 60.0
"""For how long an API server may refuse rights (HTTP 401, 403) that it grants later; then they are missing."""

_NO_ANSWER = (ApiException, urllib3.exceptions.HTTPError)


class PatientApiClient(PatchedApiClient):
    """Repeats requests without an answer, and takes an existing Job of the same labels for the created one."""

    def request(self, method: str, url: str, *args: Any, **options: Any) -> RESTResponse:
        """As of the base class.

        Raises:
            ApiException: for answers that repeating does not change.
            SourceUnavailableError: if there is no other answer within minutes.
        """
        options["_request_timeout"] = options.get("_request_timeout") or TIMEOUT
        first_refusal: float | None = None

        def attempt() -> RESTResponse:
            nonlocal first_refusal
            try:
                return self._request_once(method, url, args, options)
            except ApiException as error:
                if error.status in (401, 403):
                    first_refusal = first_refusal or time.monotonic()
                    if time.monotonic() - first_refusal > FORBIDDEN_SECONDS:
                        raise
                elif not _is_transient(error):
                    raise
                wait = retry_after(error.headers.get("Retry-After") if error.headers else None)
                raise TransientError(_reason(error), retry_after=wait) from None
            except urllib3.exceptions.HTTPError as error:
                raise TransientError(_reason(error)) from None

        subject = f"the Kubernetes API does not answer {method} {url.partition('?')[0]}"
        return with_retries(attempt, subject, policy=KUBERNETES)

    def _request_once(self, method: str, url: str, args: tuple[Any, ...], options: dict[str, Any]) -> RESTResponse:
        try:
            return super().request(method, url, *args, **options)
        except ApiException as error:
            if error.status != 409 or method != "POST":
                raise
            return self._created_before(url, options, error)

    def _created_before(self, url: str, options: dict[str, Any], conflict: ApiException) -> RESTResponse:
        """The existing Job, if it is the one that a request without an answer has created."""
        wanted = options["body"]["metadata"]
        read = {"headers": options["headers"], "_request_timeout": options["_request_timeout"]}
        try:
            response = super().request("GET", f"{url}/{wanted['name']}", **read)
        except ApiException as error:
            if error.status == 404:
                raise TransientError("a Job of this name was deleted meanwhile") from None
            raise
        existing = json.loads(response.data)["metadata"]
        if "deletionTimestamp" in existing:
            raise TransientError("a Job of this name is being deleted")
        if not wanted.get("labels", {}).items() <= existing.get("labels", {}).items():
            raise conflict
        logger.info("Job %s exists: an earlier request has created it", wanted["name"])
        return response


class PatientKubernetesClient(DagsterKubernetesClient):
    """Dagster's client with PatientApiClient; only the status of Jobs is asked for once."""

    def __init__(self) -> None:
        batch, core = BatchV1Api(PatientApiClient()), CoreV1Api(PatientApiClient())
        super().__init__(batch, core, logging.info, time.sleep, time.time)
        self._once = BatchV1Api(PatchedApiClient())

    def get_job_status(
        self, job_name: str, namespace: str, wait_time_between_attempts: float = 0.0
    ) -> V1JobStatus | None:
        """The status of a Job; active if the API server does not answer, None if there is no such Job.

        Without repetitions: the daemon looks at one run after another, and again a minute later.
        """
        try:
            return self._once.read_namespaced_job_status(job_name, namespace, _request_timeout=TIMEOUT).status
        except _NO_ANSWER as error:
            if isinstance(error, ApiException):
                if error.status == 404:
                    return None
                if error.status not in (401, 403) and not _is_transient(error):
                    raise
            logger.warning("the Kubernetes API does not answer (%s): %s counts as running", _reason(error), job_name)
            return V1JobStatus(active=1)


class PatientRunLauncher(K8sRunLauncher):
    """`K8sRunLauncher`, with the same config, for which an API server that does not answer is not a lost pod."""

    def __init__(self, *args: Any, **config: Any) -> None:
        super().__init__(*args, **config)
        self._api_client = PatientKubernetesClient()


def patient_steps(executor: dg.ExecutorDefinition) -> dg.ExecutorDefinition:
    """`k8s_job_executor` with PatientKubernetesClient."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        assert executor.executor_creation_fn is not None
        steps: Any = executor.executor_creation_fn(context)
        steps._step_handler._api_client = PatientKubernetesClient()
        return steps

    return dg.ExecutorDefinition(executor.name, executor.config_schema.as_field(), executor.get_requirements, create)


def _is_transient(error: ApiException) -> bool:
    return not error.status or is_transient_status(error.status)  # 0: TLS


def _reason(error: Exception) -> str:
    if isinstance(error, ApiException):
        return f"HTTP {error.status} {error.reason}"
    cause = getattr(error, "reason", None) or error
    return f"{type(cause).__name__}"
