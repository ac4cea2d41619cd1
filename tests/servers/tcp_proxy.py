"""A proxy on loopback that passes bytes on, counts the connections that are open at a time, and stops when told to."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class TcpProxy:
    """A running proxy.

    Attributes:
        url: what to use instead of the other server's URL, without a slash at the end.
        peak: most connections that were open at the same time.
        total: connections that were made.
        stall_after: bytes that each connection answers before it falls silent; None: all.
    """

    url: str = ""
    peak: int = 0
    total: int = 0
    stall_after: int | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, client: socket.socket, target: tuple[str, int]) -> None:
        with self._lock:
            self._open += 1
            self.total += 1
            self.peak = max(self.peak, self._open)
        try:
            with client, socket.create_connection(target) as server:
                asked = threading.Thread(target=self._pass_on, args=(client, server), daemon=True)
                asked.start()
                self._pass_on(server, client, self.stall_after)
                asked.join()
        finally:
            with self._lock:
                self._open -= 1

    def _pass_on(self, source: socket.socket, sink: socket.socket, stall_after: int | None = None) -> None:
        with suppress(OSError):
            passed = 0
            while part := source.recv(65536):
                if stall_after is not None and passed + len(part) > stall_after:
                    self.stalled.set()
                    continue
                sink.sendall(part)
                passed += len(part)
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


@contextmanager
def tcp_proxy_of(target: str) -> Iterator[TcpProxy]:
    """Put a proxy in front of the server at a URL."""
    parts = urlsplit(target)
    assert parts.hostname
    assert parts.port
    address = parts.hostname, parts.port
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = TcpProxy(f"http://127.0.0.1:{listener.getsockname()[1]}")

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=proxy.serve, args=(client, address), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
