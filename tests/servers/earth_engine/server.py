"""A local Earth Engine: the REST calls of `earthengine-api` over a few image collections.

Tokens are issued for one service account; requests without a valid token are refused. The API description and the list
of algorithms are those that the `ee` package ships with its tests.
"""

import io
import json
import re
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import ee
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from darts_assets.earth_engine import EarthEngineOptions
from tests.servers.earth_engine.expressions import Collections, ExpressionError, Pages, compute_pixels

PROJECT = "darts-test"
SUBJECT_TOKEN = "token-of-a-pod"
SCOPE = "https://www.googleapis.com/auth/earthengine"
AUDIENCE = "https://oauth2.googleapis.com/token"  # whatever the key's token_uri
ACCOUNT = f"reader@{PROJECT}.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Fault:
    """How the server misbehaves instead of answering: by an error, or by what it does to the answer.

    Attributes:
        code: HTTP status of an error.
        status: Google's name of the error.
        message: what the error says.
        headers: sent with the error.
        body: sent instead of Google's JSON.
        cut: close the connection in the middle of the answer.
        wait: do not answer before this has been waited for.
        change: what becomes of the pixels before they are encoded.
    """

    code: int = 0
    status: str = ""
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    cut: bool = False
    wait: Callable[[], Any] | None = None
    change: Callable[[np.ndarray], np.ndarray] | None = None


TOO_MANY = Fault(
    429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Number of read requests' of service 'earthengine'."
)


@dataclass
class Requests:
    """What has been asked: every call, the bodies of the requests for pixels and tables, how many pixels at once."""

    calls: list[str] = field(default_factory=list)
    pixels: list[dict[str, Any]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def count(self, call: str) -> int:
        return self.calls.count(call)


class EarthEngineServer(ThreadingHTTPServer):
    """Serves until it is closed; `faults` are used up call by call, `always` stays."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, collections: Collections) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.collections = collections
        self.requests = Requests()
        self.pages = Pages()
        self.tokens: set[str] = set()
        self.lock = threading.Lock()
        self._faults: dict[str, deque[Fault]] = {}
        self._always: dict[str, Fault] = {}
        self._key = _private_key()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def fail(self, *faults: Fault, call: str = "computePixels", always: bool = False) -> None:
        """Answer the next requests of a kind by these faults, one each; or all of them by a single one."""
        if always:
            (self._always[call],) = faults
        else:
            self._faults.setdefault(call, deque()).extend(faults)

    def forget(self) -> None:
        """Misbehave no longer, and count from zero."""
        self._faults.clear()
        self._always.clear()
        self.requests = Requests()

    def fault(self, call: str) -> Fault | None:
        with self.lock:
            waiting = self._faults.get(call)
            return waiting.popleft() if waiting else self._always.get(call)

    def key(self, **changes: Any) -> dict[str, Any]:
        """The JSON key of the service account; its tokens come from this server."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": ACCOUNT,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
            **changes,
        }

    def issue(self, form: dict[str, list[str]]) -> dict[str, Any]:
        """A token for an assertion that the account's key has signed.

        Raises:
            ValueError: if it has not, or is meant for somebody else.
        """
        if form.get("grant_type") != ["urn:ietf:params:oauth:grant-type:jwt-bearer"]:
            raise ValueError(f"unknown grant type {form.get('grant_type')}")
        public = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        claims = jwt.decode(form["assertion"][0], certs=public, audience=AUDIENCE)
        if claims["iss"] != ACCOUNT or SCOPE not in claims["scope"].split():
            raise ValueError(f"{claims['iss']} may not read Earth Engine with {claims['scope']}")
        return self._token()

    def workload_identity(self, subject_token_file: str) -> dict[str, Any]:
        """The configuration that a cluster gives to a pod, whose own token lies in a file."""
        return {
            "type": "external_account",
            "audience": "//iam.googleapis.com/locations/global/workforcePools/pool/providers/cluster",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/exchange",
            "credential_source": {"file": subject_token_file},
        }

    def exchange(self, form: dict[str, list[str]]) -> dict[str, Any]:
        """A token for that of a pod.

        Raises:
            ValueError: if it is not the pod's.
        """
        if form["subject_token"] != [SUBJECT_TOKEN]:
            raise ValueError("the subject token is unknown")
        return {**self._token(), "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}

    def _token(self) -> dict[str, Any]:
        token = secrets.token_urlsafe(24)
        self.tokens.add(token)
        return {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}

    @contextmanager
    def counted(self) -> Iterator[None]:
        requests = self.requests  # `forget` makes new ones
        with self.lock:
            requests.at_once += 1
            requests.most_at_once = max(requests.most_at_once, requests.at_once)
        try:
            yield
        finally:
            with self.lock:
                requests.at_once -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that have gone are no news."""


@contextmanager
def serving(collections: Collections) -> Iterator[EarthEngineServer]:
    """A server on a loopback port, with nothing asked of it yet."""
    with EarthEngineServer(collections) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def connected(collections: Collections, folder: Path) -> Iterator[tuple[EarthEngineServer, EarthEngineOptions]]:
    """A server, and the options of its account, whose key lies in `folder`; afterwards the session is closed."""
    with serving(collections) as server:
        key = folder / "key.json"
        key.write_text(json.dumps(server.key()))
        yield server, EarthEngineOptions(url=server.url, key_file=str(key))
    ee.Reset()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: EarthEngineServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/$discovery/rest":
            self._serve("discovery", lambda: _discovery(self.server.url), public=True)
        elif match := re.fullmatch(r"/v1/projects/([^/]+)/algorithms", path):
            self._serve("algorithms", _algorithms, project=match[1])
        else:
            self._refuse(404, "NOT_FOUND", f"Not found: {path}")

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self.content = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "/token":
            self._serve("token", lambda: self._token(self.server.issue), public=True)
        elif path == "/exchange":
            self._serve("exchange", lambda: self._token(self.server.exchange), public=True)
        elif match := re.fullmatch(r"/v1/projects/([^/]+)/image:computePixels", path):
            with self.server.counted():
                self._serve("computePixels", self._pixels, project=match[1])
        elif match := re.fullmatch(r"/v1/projects/([^/]+)/table:computeFeatures", path):
            self._serve("computeFeatures", self._table, project=match[1])
        else:
            self._refuse(404, "NOT_FOUND", f"Not found: {path}")

    def _serve(self, call: str, answer: Callable[[], bytes], public: bool = False, project: str = PROJECT) -> None:
        with self.server.lock:
            self.server.requests.calls.append(call)
        fault = self.server.fault(call)
        if fault is not None and fault.code:
            self._refuse(fault.code, fault.status, fault.message, fault.headers, fault.body)
            return
        if not public and not self._is_allowed(project):
            return
        self._fault = fault
        if fault is not None and fault.wait is not None:
            fault.wait()
        try:
            body = answer() if fault is None or fault.body is None else fault.body
        except ExpressionError as error:
            self._refuse(error.code, error.status, str(error))
        except ValueError as error:
            self._answer(400, json.dumps({"error": "invalid_grant", "error_description": str(error)}).encode())
        else:
            self._answer(200, body, cut=fault is not None and fault.cut)

    def _is_allowed(self, project: str) -> bool:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer" or token not in self.server.tokens:
            self._refuse(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
            return False
        if {project, self.headers.get("X-Goog-User-Project", project)} != {PROJECT}:
            self._refuse(
                403, "PERMISSION_DENIED", f"Caller does not have required permission to use project {project}."
            )
            return False
        return True

    def _token(self, issue: Callable[[dict[str, list[str]]], dict[str, Any]]) -> bytes:
        return json.dumps(issue(parse_qs(self.content.decode()))).encode()

    def _pixels(self) -> bytes:
        request = json.loads(self.content)
        with self.server.lock:
            self.server.requests.pixels.append(request)
        if request["fileFormat"] != "NPY":
            raise ExpressionError(f"This server writes NPY, not {request['fileFormat']}.")
        array = compute_pixels(request, self.server.collections)
        if self._fault is not None and self._fault.change is not None:
            array = self._fault.change(array)
        file = io.BytesIO()
        np.save(file, array)
        return file.getvalue()

    def _table(self) -> bytes:
        request = json.loads(self.content)
        with self.server.lock:
            self.server.requests.tables.append(request)
        return json.dumps(self.server.pages.page(request, self.server.collections)).encode()

    def _refuse(
        self, code: int, status: str, message: str, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> None:
        error = {"error": {"code": code, "message": message, "status": status}}
        self._answer(code, json.dumps(error).encode() if body is None else body, headers or {})

    def _answer(self, code: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def log_message(self, *args: Any) -> None:
        """Nothing is printed."""


@cache
def _private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def _algorithms() -> bytes:
    return (files("ee") / "tests" / "algorithms.json").read_bytes()


def _discovery(url: str) -> bytes:
    """The shipped description is that of v1alpha, whose paths are those of v1 but for the version."""
    text = (files("ee") / "tests" / "cloud_api_discovery_document.json").read_text()
    return text.replace("v1alpha", "v1").replace("https://earthengine.googleapis.com", url).encode()
