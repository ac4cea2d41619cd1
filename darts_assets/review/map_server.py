"""The server of the map and of its review: files of a store, and the endpoint of verdicts.

The server sends no CORS headers, so that pages of other hosts cannot read from it. Bound to a loopback address, it
answers only requests to one: a name of another host that resolves to this computer (DNS rebinding) is refused.
"""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import obstore
from obstore.exceptions import BaseError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from darts_assets.errors import DartsError, SettingsError, StoreError, VerdictError
from darts_assets.review.stored_files import StoredFiles
from darts_assets.review.verdict_record import latest, parsed_request
from darts_assets.review.verdict_store import AllVerdicts
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.service_errors import in_words

PAGE = "/catalog/map/index.html"
API = "/api/verdicts"
LARGEST_BODY = 256 * 1024
MOST_RECORDS = 100
MOST_NAME = 80

_LEAST_TOKEN = 16
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-site",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def new_token() -> str:
    """A random token of 256 bits."""
    return secrets.token_urlsafe(32)


def checked_token(token: str) -> str:
    """A token that can stand in a URL and in a header.

    Raises:
        SettingsError: if it is short or has other characters than letters, digits, `-`, `.`, `_` and `~`.
    """
    if len(token) < _LEAST_TOKEN or not all(part.isascii() and (part.isalnum() or part in "-._~") for part in token):
        raise SettingsError(
            f"DARTS_REVIEW_TOKEN: expected at least {_LEAST_TOKEN} letters, digits, '-', '.', '_' or '~'"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether a host is this computer only: `localhost`, `127.0.0.1`, `::1`."""
    try:
        return host.lower().rstrip(".") == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def map_application(root: StoreLocation, *, token: str | None = None, loopback: bool = True) -> "Guard":
    """The ASGI application.

    Args:
        root: the store.
        token: secret of the endpoint of verdicts; without one there is no such endpoint.
        loopback: whether only requests to a loopback address are answered.
    """
    files = Route("/{path:path}", StoredFiles(root).answer, methods=["GET"])
    routes = [Route("/", _to_page, methods=["GET"])]
    if token is not None:
        endpoint = VerdictEndpoint(AllVerdicts(root), checked_token(token))
        routes.append(Route(API, endpoint.answer, methods=["GET", "POST"]))
    application = Starlette(routes=[*routes, files], exception_handlers={HTTPException: _as_json, Exception: _failed})
    return Guard(application, loopback=loopback)


class VerdictEndpoint:
    """`GET` returns the verdicts of a reviewer, `POST` appends verdicts; both need the token.

    Args:
        store: of the verdicts.
        token: expected as `Authorization: Bearer TOKEN`.
    """

    def __init__(self, store: AllVerdicts, token: str) -> None:
        self._store = store
        self._expected = f"Bearer {token}".encode()

    async def answer(self, request: Request) -> Response:
        """Answer a request.

        Raises:
            HTTPException: 400 for what is not verdicts, 401 without the token, 413 for too much, 415 for another type
                of content, 502 if the store does not respond.
        """
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), self._expected):
            raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})
        try:
            return await (self._append(request) if request.method == "POST" else self._of_reviewer(request))
        except VerdictError as error:
            raise HTTPException(400, str(error)) from None
        except StoreError as error:
            raise HTTPException(502, str(error)) from None

    async def _of_reviewer(self, request: Request) -> Response:
        names = request.query_params.getlist("reviewer")
        if len(request.query_params.multi_items()) != 1 or len(names) != 1 or not 0 < len(names[0]) <= MOST_NAME:
            raise HTTPException(
                400, f"expected ?reviewer=NAME with a name of 1 to {MOST_NAME} characters, and nothing else"
            )
        verdicts = await run_in_threadpool(self._store.verdicts)
        return JSONResponse({"verdicts": [verdict.record() for verdict in latest(verdicts, names[0])]})

    async def _append(self, request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "expected the content type application/json")
        verdicts = parsed_request(await _body(request))
        if len(verdicts) > MOST_RECORDS:
            raise HTTPException(413, f"{len(verdicts)} verdicts in a request, expected at most {MOST_RECORDS}")
        stored = await run_in_threadpool(self._store.append, verdicts)
        return JSONResponse({"stored": stored}, 201)


class Guard:
    """Middleware: security headers on every response, and requests to other hosts are refused.

    Args:
        application: what answers.
        loopback: whether only requests to a loopback address are answered.
    """

    def __init__(self, application: Starlette, *, loopback: bool) -> None:
        self._application, self._loopback = application, loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                if scope["path"].startswith("/api/"):
                    own.append((b"cache-control", b"no-store"))
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if self._loopback and (len(hosts) != 1 or not is_loopback(_without_port(hosts[0]))):
            refusal = JSONResponse({"error": "this server answers requests to localhost only"}, 421)
            await refusal(scope, receive, send_with_headers)
        else:
            await self._application(scope, receive, send_with_headers)


def has_page(root: StoreLocation) -> bool:
    """Whether the store has a map.

    Raises:
        StoreError: if the store does not respond.
    """
    folder = root.child("catalog")
    if folder.is_local:
        return (folder.path / "map" / "index.html").is_file()
    try:
        obstore.head(folder.objects(), "map/index.html")
    except FileNotFoundError:
        return False
    except (BaseError, OSError) as error:
        raise StoreError(f"{folder} cannot be read: {in_words(error)}") from error
    return True


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 selects a free one.

    Raises:
        SettingsError: if the address is not one of this computer, or the port is in use.
    """
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
        )
    except (OSError, OverflowError) as error:
        raise SettingsError(f"{host}:{port} cannot be served: {error}; choose another with --host and --port") from None


def url_of(bound: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def serve(application: Guard, bound: socket.socket) -> None:
    """Answer requests until the process is interrupted. Requests are not logged, because they can contain names."""
    import uvicorn

    config = uvicorn.Config(
        application, log_level="warning", access_log=False, server_header=False, lifespan="off", ws="none",
        proxy_headers=False, limit_concurrency=200, timeout_keep_alive=30,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[bound])


async def _body(request: Request) -> bytes:
    """The body of a request; a larger one than `LARGEST_BODY` is refused before it is read, or where it exceeds it."""
    too_large = HTTPException(413, f"the body has more than {LARGEST_BODY // 1024} KiB")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or int(length[:20]) > LARGEST_BODY:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise too_large
    return bytes(body)


def _without_port(host: str) -> str:
    if host.startswith("["):
        address, bracket, port = host[1:].partition("]")
        return address if bracket and (not port or port.startswith(":")) else ""
    return host.rpartition(":")[0] if ":" in host else host


async def _to_page(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{PAGE}{query}", 307)


async def _as_json(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    text = str(error) if isinstance(error, DartsError) else f"{type(error).__name__} in the server"
    return JSONResponse({"error": text}, 500)
