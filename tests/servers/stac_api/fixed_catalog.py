"""A STAC API that answers each search with the same items, page by page, for tests of what becomes of them."""

import http.server
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.servers.network.file_server import running


@contextmanager
def serving_items(items: Sequence[dict[str, Any]], searches: list[dict[str, Any]]) -> Iterator[str]:
    """Serve items; yields the URL of the API. The bodies of first pages are appended to `searches`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            first = body.pop("token", 0)
            if not first:
                searches.append(body)
            last = first + body["limit"]
            page: dict[str, Any] = {"type": "FeatureCollection", "features": items[first:last], "links": []}
            page["numberMatched"] = len(items)
            if last < len(items):
                link = {"rel": "next", "method": "POST", "href": f"{url}{self.path}", "body": {**body, "token": last}}
                page["links"].append(link)
            content = json.dumps(page).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/geo+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url
