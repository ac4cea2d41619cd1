"""The dialect of Earth Search's server (stac-server), in front of a stac-fastapi.

Differences: the `query` extension (with `in`) instead of CQL2, an error for pages larger than a Lambda function can
answer, `numberMatched`, and paging tokens that are merged into the request.
"""

import http.server
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers.network.file_server import running

_LARGEST_PAGE = 267
_OPERATORS = {"eq": "=", "lte": "<=", "gte": ">=", "in": "in"}


@contextmanager
def earth_search_of(target: str) -> Iterator[str]:
    """Put the dialect in front of the API at a URL; yields its own URL, without a slash at the end."""
    target = target.rstrip("/")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(*_asked(urllib.request.Request(target + self.path)))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "filter" in body:
                return self.answer(400, {"code": "BadRequest", "description": "no filter extension here"})
            if body.get("limit", 10) > _LARGEST_PAGE:
                return self.answer(500, {"message": "Internal server error"})
            token, conditions = body.pop("next", None), _cql2(body.pop("query", {}))
            asked = {**body, **conditions, **({"token": token} if token else {})}
            request = urllib.request.Request(target + self.path, json.dumps(asked).encode(), method="POST")
            request.add_header("Content-Type", "application/json")
            status, page = _asked(request)
            if status == 200:
                counted = {"collections": body["collections"], "limit": 10_000, "fields": {"include": ["id"]}}
                counted |= {key: value for key, value in asked.items() if key in ("filter", "datetime", "ids")}
                if "intersects" not in asked:
                    request.data = json.dumps(counted).encode()
                    matched = len(_asked(request)[1]["features"])
                    page["context"] = {"limit": body["limit"], "matched": matched, "returned": len(page["features"])}
                    page["numberMatched"] = matched
                page["links"] = [
                    {"rel": "next", "method": "POST", "href": f"{server_url}{self.path}", "merge": True,
                     "body": {"next": link["body"]["token"]}}
                    for link in page["links"] if link["rel"] == "next"
                ]  # fmt: skip
            return self.answer(status, page)

        def answer(self, status: int, document: Any) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/geo+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server_url:
        yield server_url


def _asked(request: urllib.request.Request) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def _cql2(query: dict[str, dict[str, Any]]) -> dict[str, Any]:
    conditions = [
        {"op": _OPERATORS[operator], "args": [{"property": name}, value]}
        for name, operators in query.items()
        for operator, value in operators.items()
    ]
    return {"filter-lang": "cql2-json", "filter": {"op": "and", "args": conditions}} if conditions else {}
