"""Serves a folder on loopback by HTTP/1.1, with byte ranges."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit


@contextmanager
def serve_folder(folder: Path, requests: list[str] | None = None) -> Iterator[str]:
    """Serve the files of a folder; yields its URL, without a slash at the end. Paths are appended to `requests`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if requests is not None:
                requests.append(self.path)
            file = folder / unquote(urlsplit(self.path).path).lstrip("/")
            content, status, part = b"", 404, ""
            if file.is_file():
                size = file.stat().st_size
                first, last, status = 0, size - 1, 200
                wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                if wanted is not None:
                    first, last, status = int(wanted[1]), min(int(wanted[2] or last), last), 206
                    part = f"bytes {first}-{last}/{size}"
                with file.open("rb") as opened:
                    opened.seek(first)
                    content = opened.read(last + 1 - first)
            self.send_response(status)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content)))
            if part:
                self.send_header("Content-Range", part)
            self.end_headers()
            if self.command == "GET":
                with suppress(ConnectionError):  # the client did not wait
                    self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


@contextmanager
def running(server: http.server.ThreadingHTTPServer) -> Iterator[str]:
    """Run a server in a thread; yields its URL, without a slash at the end."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
