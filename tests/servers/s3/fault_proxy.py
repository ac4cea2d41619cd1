"""A proxy in front of an S3 server that treats chosen requests badly.

| fault | the request | the client gets |
|---|---|---|
| `lost` | takes effect | a closed connection |
| `reset` | has no effect | a closed connection |
| `500`, `503` | has no effect | that status |
| `truncated` | takes effect | half of the body, then a closed connection |
| `late` | takes effect after `seconds` | its response, then |
"""

import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from darts_assets.stores.location import StoreLocation


@dataclass
class Fault:
    """What happens to requests of a method whose path matches.

    Attributes:
        kind: see the module.
        method: such as PUT.
        path: pattern that is searched in the path with the query.
        times: requests that it happens to.
        share: probability with which it happens to a request.
        seconds: delay of `late`.
        skip: requests that it leaves alone first.
    """

    kind: str
    method: str
    path: str = ""
    times: int = 1
    share: float = 1.0
    seconds: float = 0.5
    skip: int = 0


@dataclass
class FaultProxy:
    """A running proxy.

    Attributes:
        endpoint: URL to use instead of the server's.
        faults: what happens; may be changed at any time.
        happened: kinds of faults that have happened, in order.
    """

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    _dice: random.Random = field(default_factory=lambda: random.Random(5))

    def before(self, location: StoreLocation) -> StoreLocation:
        """The same location behind this proxy."""
        return replace(location, endpoint=self.endpoint)

    def fault_of(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.method == method and fault.times > 0 and re.search(fault.path, path):
                if fault.skip > 0:
                    fault.skip -= 1
                elif self._dice.random() < fault.share:
                    fault.times -= 1
                    self.happened.append(fault.kind)
                    return fault
        return None


@contextmanager
def fault_proxy(endpoint: str) -> Iterator[FaultProxy]:
    """Put a proxy in front of the server at a URL."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        target: ClassVar[str] = endpoint.removeprefix("http://")

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                fault = proxy.fault_of(self.command, self.path)
            kind = fault.kind if fault else ""
            if kind in ("500", "503"):
                return self._send(int(kind), b"<Error><Code>SlowDown</Code></Error>", {})
            if kind == "reset":
                return self._close()
            if fault and kind == "late":
                time.sleep(fault.seconds)
            server = HTTPConnection(self.target, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            server.request(self.command, self.path, body or None, headers)
            response = server.getresponse()
            content = response.read()
            server.close()
            if kind == "lost":
                return self._close()
            return self._send(response.status, content, dict(response.getheaders()), cut=kind == "truncated")

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do

        def _send(self, status: int, content: bytes, headers: dict[str, str], cut: bool = False) -> None:
            self.send_response(status)
            length = headers.get("Content-Length", str(len(content)))
            for name, value in headers.items():
                if name.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
            if cut:
                self._close()

        def _close(self) -> None:
            self.close_connection = True
            self.connection.close()

        def log_message(self, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, *arguments: object) -> None:
            pass  # a client that has gone

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = FaultProxy(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            server.shutdown()
