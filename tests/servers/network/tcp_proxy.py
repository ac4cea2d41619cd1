"""A proxy on loopback that forwards HTTP unchanged, counts open requests, and can stop answering."""

import re
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
        peak: most requests that were under way at the same time. A request ends just before the last byte of its answer
            is passed on: nobody can know that it has ended and ask the next one while it still counts.
        total: connections that were made.
        open: connections that are open.
        stall_after: bytes that each connection answers before it falls silent; None: all.
        stalled: set when one has fallen silent.
    """

    url: str = ""
    peak: int = 0
    total: int = 0
    open: int = 0
    stall_after: int | None = None
    stalled: threading.Event = field(default_factory=threading.Event)
    _busy: set["_Connection"] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, client: socket.socket, target: tuple[str, int]) -> None:
        with self._lock:
            self.total += 1
            self.open += 1
        connection = _Connection(self)
        try:
            with client, socket.create_connection(target) as server:
                asking = threading.Thread(target=connection.ask, args=(client, server), daemon=True)
                asking.start()
                connection.answer(server, client)
                asking.join()
        finally:
            self.set_busy(connection, False)
            with self._lock:
                self.open -= 1

    def set_busy(self, connection: "_Connection", busy: bool) -> None:
        with self._lock:
            (self._busy.add if busy else self._busy.discard)(connection)
            self.peak = max(self.peak, len(self._busy))


class _Connection:
    def __init__(self, proxy: TcpProxy) -> None:
        self._proxy = proxy
        self._head = b""
        self._left: int | None = None

    def ask(self, client: socket.socket, server: socket.socket) -> None:
        """Pass requests on; all of ours have no body, and wait for the answer."""
        with suppress(OSError):
            while part := client.recv(65536):
                self._proxy.set_busy(self, True)
                server.sendall(part)
        _hang_up(client, server)

    def answer(self, server: socket.socket, client: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while part := server.recv(65536):
                passed += len(part)
                if self._proxy.stall_after is not None and passed > self._proxy.stall_after:
                    self._proxy.stalled.set()
                    continue
                if self._is_last(part):
                    client.sendall(part[:-1])
                    self._proxy.set_busy(self, False)
                    client.sendall(part[-1:])
                else:
                    client.sendall(part)
        _hang_up(client, server)

    def _is_last(self, part: bytes) -> bool:
        """Whether an answer to GET ends with these bytes."""
        if self._left is None:
            self._head += part
            head, found, body = self._head.partition(b"\r\n\r\n")
            if not found:
                return False
            stated = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            assert stated, head
            self._left, part, self._head = int(stated[1]), body, b""
        self._left -= len(part)
        if self._left > 0:
            return False
        self._left = None
        return True


def _hang_up(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


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
        _hang_up(listener)
        thread.join()
