"""A proxy on loopback that forwards and records requests, and breaks selected ones."""

import http.client
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from tests.servers.network.file_server import running

Way = Literal["drop", "cut", "stall"] | int
"""How an answer is broken: a closed connection, half of the body, silence for a minute, or an HTTP status."""

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True)
class Request:
    """A request that has been answered, or not.

    Attributes:
        method: such as GET.
        path: with the query.
        headers: names in lower case.
        body: what came with it.
        status: of the answer; None where there was none.
        sent: bytes of the answer's body.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int | None
    sent: int


@dataclass
class _Fault:
    part: str
    way: Way
    skip: int
    times: int
    headers: dict[str, str]


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        url: what to use instead of the other server's URL, without a slash at the end.
        requests: all of them so far, in the order of their ends.
    """

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    _faults: list[_Fault] = field(default_factory=list)

    def fail(self, part: str, way: Way, *, times: int = 1, skip: int = 0, **headers: str) -> None:
        """Break the next `times` requests with `part` in method, path or range, after `skip` that pass.

        `headers` go with a status; underscores in their names become hyphens.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(_Fault(part, way, skip, times, named))

    def heal(self) -> None:
        """Break nothing any more."""
        self._faults.clear()

    @property
    def pending(self) -> bool:
        """Whether anything is still to be broken."""
        return any(fault.times > 0 for fault in self._faults)

    def _next_fault(self, request: str) -> _Fault | None:
        for fault in self._faults:
            if fault.part in request and fault.times > 0:
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


@contextmanager
def proxy_of(target: str) -> Iterator[Proxy]:
    """Put a proxy in front of the server at a URL; paths stay the same, and so does the Host that clients name."""
    host = urlsplit(target).netloc
    proxy = Proxy()
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            fault = proxy._next_fault(f"{self.command} {self.path} {headers.get('range', '')}")
            way = fault.way if fault is not None else None
            status: int | None = None
            answer: dict[str, str] = {}
            content = b""
            if way is None or way == "cut":
                status, answer, content = self.passed_on(body, headers)
            elif fault is not None and isinstance(way, int):
                status, answer = way, fault.headers
            sent = content[: len(content) // 2] if way == "cut" else content
            proxy.requests.append(Request(self.command, self.path, headers, body, status, len(sent)))
            if way == "stall":
                ended.wait(60)
            with suppress(ConnectionError):  # the client did not wait
                if status is not None:
                    self.send_response(status)
                    for name, value in answer.items():
                        self.send_header(name, value)
                    if self.command != "HEAD":
                        self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(sent)
                if status is None or len(sent) < len(content):
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

        def passed_on(self, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(host, timeout=60)
            try:
                connection.request(self.command, self.path, body or None, headers)
                answer = connection.getresponse()
                content = answer.read()
                dropped = _HOP_BY_HOP if self.command != "HEAD" else _HOP_BY_HOP - {"content-length"}
                return answer.status, {k: v for k, v in answer.headers.items() if k.lower() not in dropped}, content
            finally:
                connection.close()

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        proxy.url = url
        try:
            yield proxy
        finally:
            ended.set()
