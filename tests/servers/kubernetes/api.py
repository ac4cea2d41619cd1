"""A small Kubernetes API server for the real client: Jobs, Pods, logs and events of one namespace.

Jobs run as local processes (`cluster`, `pods`, `containers`). Objects are validated strictly against the Kubernetes
schemas, and the installed Roles are enforced. A real API server also has admission controllers, quotas, watches, TLS
and latency.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml

from tests.servers.kubernetes.cluster import Cluster
from tests.servers.kubernetes.containers import Object

_LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


ADMIN = "admin"
"""The account of who drains nodes; it may do everything."""


class ApiError(Exception):
    """An HTTP answer other than success."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


@contextmanager
def kubernetes_api(folder: Path, manifests: Sequence[Object], image: Mapping[str, str]) -> Iterator[Cluster]:
    """A cluster in which `manifests` are installed, and its API; all its processes are killed at the end.

    Args:
        folder: of logs, volumes and `<service account>.kubeconfig`.
        manifests: as rendered, and the secrets that they name.
        image: environment of the image of all containers.
    """
    accounts = ["default", ADMIN, *(m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount")]
    kubeconfigs = {account: folder / f"{account}.kubeconfig" for account in accounts}
    cluster = Cluster(folder, manifests, image, kubeconfigs)
    listener = _Listener(_Api(cluster, manifests))
    cluster.listener = listener
    for account, path in kubeconfigs.items():
        path.write_text(_kubeconfig(f"http://127.0.0.1:{listener.port}", account, cluster.namespace))
    try:
        yield cluster
    finally:
        cluster.stop()
        listener.close()


class _Listener:
    """The port of the API, which can be closed for a while."""

    def __init__(self, api: "_Api") -> None:
        self._api = api
        self.port = 0
        self._open()

    def _open(self) -> None:
        self._handler: Any = type("Handler", (_Handler,), {"api": self._api, "closed": False})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and answer on none."""
        self._handler.closed = True
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def outage(self, forbidden: float = 0) -> Iterator[None]:
        """Connections are refused inside; for `forbidden` seconds afterwards, the server knows no role (403)."""
        self.close()
        try:
            yield
        finally:
            self._api.forbidden_until = time.monotonic() + forbidden
            self._open()


def _kubeconfig(server: str, account: str, namespace: str) -> str:
    return yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": account, "user": {"token": f"token-of-{account}"}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": account, "namespace": namespace}}],
    })  # fmt: skip


class _Api:
    """What is asked for, by method and path; what is not here is not found."""

    def __init__(self, cluster: Cluster, manifests: Sequence[Object]) -> None:
        self._cluster = cluster
        self._rules = _rules(manifests)
        self.forbidden_until = 0.0

    def answer(self, method: str, url: str, account: str, body: bytes) -> str | Object:
        """The answer as text or as JSON.

        Raises:
            ApiError: for what a real server refuses too.
        """
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/version":
            return {"major": "1", "minor": "37", "gitVersion": "v1.37.0"}
        found = re.fullmatch(
            r"/(?:apis/(batch)|api)/v1/namespaces/([^/]+)/([a-z]+)(?:/([^/]+))?(?:/([a-z]+))?", parts.path
        )
        if found is None:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        group, namespace, kind, name, part = found.groups()
        resource = f"{kind}/{part}" if part else kind
        verb = {"GET": "get" if name else "list", "POST": "create", "DELETE": "delete"}.get(method, method)
        allowed = account == ADMIN or (account, verb, group or "", resource) in self._rules
        if time.monotonic() < self.forbidden_until or not allowed or namespace != self._cluster.namespace:
            who = f'User "system:serviceaccount:{self._cluster.namespace}:{account}"'
            raise ApiError(403, "Forbidden", f'{resource} is forbidden: {who} cannot {verb} in "{namespace}"')
        known: dict[tuple[str, str], Callable[..., str | Object]] = {
            ("create", "jobs"): self._create_job,
            ("list", "jobs"): partial(self._list, "jobs"),
            ("get", "jobs"): self._job,
            ("get", "jobs/status"): self._job,
            ("delete", "jobs"): self._delete_job,
            ("list", "pods"): partial(self._list, "pods"),
            ("get", "pods"): lambda name, **_: self._pod(name).object,
            ("get", "pods/log"): self._log,
            ("delete", "pods"): self._delete_pod,
            ("create", "pods/eviction"): self._evict,
            ("list", "events"): partial(self._list, "events"),
        }
        if (verb, resource) not in known:
            raise ApiError(405, "MethodNotAllowed", f"{verb} {resource} is not known here")
        with self._cluster.lock:
            return known[verb, resource](name=name, query=query, body=json.loads(body or b"{}"))

    def note(self, request: str, error: ApiError) -> None:
        """Record a refused request; 404 and the end of an outage do not count as refused."""
        if error.code != 404 and time.monotonic() > self.forbidden_until:
            self._cluster.refused.append(f"{request}: {error.code} {error}")

    def _create_job(self, body: Object, **_: Any) -> Object:
        _check_job(body)
        name = body["metadata"]["name"]
        if name in self._cluster.jobs:
            raise ApiError(409, "AlreadyExists", f'jobs.batch "{name}" already exists')
        return self._cluster.create_job(body)

    def _job(self, name: str, **_: Any) -> Object:
        if name not in self._cluster.jobs:
            raise ApiError(404, "NotFound", f'jobs.batch "{name}" not found')
        job = self._cluster.jobs[name]
        # Counts that are zero are left out, as Kubernetes does.
        return {**job, "status": {key: value for key, value in job["status"].items() if value != 0}}

    def _delete_job(self, name: str, query: Mapping[str, str], body: Object) -> Object:
        self._job(name)
        policy = query.get("propagationPolicy") or body.get("propagationPolicy") or "Orphan"
        self._cluster.delete_job(name, with_pods=policy != "Orphan")
        return {"apiVersion": "v1", "kind": "Status", "status": "Success"}

    def _pod(self, name: str) -> Any:
        if name not in self._cluster.pods:
            raise ApiError(404, "NotFound", f'pods "{name}" not found')
        return self._cluster.pods[name]

    def _delete_pod(self, name: str, **_: Any) -> Object:
        pod = self._pod(name)
        self._cluster.delete_pod(name)
        return dict(pod.object)

    def _evict(self, name: str, **_: Any) -> Object:
        self._pod(name)
        if not self._cluster.may_evict(name):
            raise ApiError(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")
        self._cluster.delete_pod(name)
        return {"apiVersion": "v1", "kind": "Status", "status": "Success"}

    def _log(self, name: str, query: Mapping[str, str], **_: Any) -> str:
        return str(self._pod(name).lines(int(query["tailLines"]) if "tailLines" in query else None))

    def _list(self, kind: str, query: Mapping[str, str], **_: Any) -> Object:
        group, title, there = {
            "jobs": ("batch/v1", "JobList", [self._job(name) for name in self._cluster.jobs]),
            "pods": ("v1", "PodList", [pod.object for pod in self._cluster.pods.values()]),
            "events": ("v1", "EventList", self._cluster.events),
        }[kind]
        for selector, chosen in (("labelSelector", _label), ("fieldSelector", _field)):
            for term in filter(None, query.get(selector, "").split(",")):
                name, equal, value = term.replace("==", "=").partition("=")
                if not equal or name.endswith("!"):
                    raise ApiError(400, "BadRequest", f"{selector} {term} is not known here")
                there = [each for each in there if chosen(each, name) == value]
        return {"apiVersion": group, "kind": title, "metadata": {"resourceVersion": "1"}, "items": there}


def _label(thing: Object, name: str) -> str | None:
    return thing["metadata"].get("labels", {}).get(name)


def _field(thing: Object, path: str) -> Any:
    for name in path.split("."):
        thing = thing.get(name, {})
    return thing


def _rules(manifests: Sequence[Object]) -> set[tuple[str, str, str, str]]:
    """Service account, verb, API group, resource: what Roles allow to whom they are bound."""
    roles = {m["metadata"]["name"]: m["rules"] for m in manifests if m["kind"] == "Role"}
    return {
        (subject["name"], verb, group, resource)
        for binding in manifests if binding["kind"] == "RoleBinding"
        for subject in binding["subjects"] if subject["kind"] == "ServiceAccount"
        for rule in roles[binding["roleRef"]["name"]]
        for verb in rule["verbs"] for group in rule["apiGroups"] for resource in rule["resources"]
    }  # fmt: skip


def _check_job(job: Object) -> None:
    """What the schema says, and what it cannot say."""
    try:
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)
    except (kubernetes_validate.ValidationError, kubernetes_validate.InvalidSchemaError) as error:
        raise ApiError(400, "BadRequest", f"Job in version v1 cannot be handled: {error.message}") from None
    template = job["spec"]["template"]
    wrong = []
    if not _NAME.fullmatch(job["metadata"]["name"]) or len(job["metadata"]["name"]) > 63:
        wrong.append(f"metadata.name: {job['metadata']['name']}")
    for labels in (job["metadata"].get("labels", {}), template["metadata"].get("labels", {})):
        wrong += [f"metadata.labels: {v}" for v in labels.values() if len(v) > 63 or not _LABEL.fullmatch(v)]
    if template["spec"].get("restartPolicy") not in ("Never", "OnFailure"):
        wrong.append("spec.template.spec.restartPolicy: Required value: valid values: OnFailure, Never")
    volumes = {volume["name"] for volume in template["spec"].get("volumes", [])}
    for container in template["spec"]["containers"]:
        mounts = container.get("volumeMounts", [])
        wrong += [f"volumeMounts: Not found: {m['name']}" for m in mounts if m["name"] not in volumes]
        paths = [mount["mountPath"] for mount in mounts]
        wrong += [f"volumeMounts: {path} must be unique" for path in set(paths) if paths.count(path) > 1]
    if wrong:
        raise ApiError(422, "Invalid", f'Job.batch "{job["metadata"]["name"]}" is invalid: {"; ".join(wrong)}')


class _Handler(BaseHTTPRequestHandler):
    api: _Api
    closed: bool
    protocol_version = "HTTP/1.1"

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "")
        if self.closed:
            self.close_connection = True
            return
        try:
            if not token.startswith("Bearer token-of-"):
                raise ApiError(401, "Unauthorized", "Unauthorized")
            account = token.removeprefix("Bearer token-of-")
            answer, code = (
                self.api.answer(self.command, self.path, account, body),
                201 if self.command == "POST" else 200,
            )
        except ApiError as error:
            self.api.note(f"{self.command} {self.path}", error)
            answer, code = {
                "apiVersion": "v1", "kind": "Status", "status": "Failure",
                "message": str(error), "reason": error.reason, "code": error.code,
            }, error.code  # fmt: skip
        text = isinstance(answer, str)
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if text else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _respond

    def log_message(self, *_: Any) -> None:
        pass
