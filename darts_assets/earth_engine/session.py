"""The session of the process with Earth Engine, whose client library keeps its state in its modules."""

import re
import threading
from typing import Any
from urllib.parse import urlsplit

from darts_assets.earth_engine.api_errors import EarthEngineError, failure_of
from darts_assets.earth_engine.auth import find_credentials
from darts_assets.earth_engine.options import EarthEngineOptions
from darts_assets.errors import SettingsError
from darts_assets.redaction import shown
from darts_assets.remote.responses import MAX_PAGE_BYTES, GuardedSession, read_body
from darts_assets.remote.retry import connection_failure

_CONNECT_SECONDS = 10

_lock = threading.Lock()
_current: EarthEngineOptions | None = None


def initialized(options: EarthEngineOptions) -> Any:
    """The module `ee`, initialized by the first caller, without retries of its own; `ee.Reset()` closes the session.

    Raises:
        SettingsError: if there are no credentials or no project, if the service refuses them, if the URL is invalid, or
            if `ee` was initialized with other options.
        Exception: errors of `ee` if the service is not available, see `api_errors`.
    """
    global _current
    import ee

    with _lock:
        if not ee.data.is_initialized():
            _initialize(ee, options)
            _current = options
        elif _current != options:
            raise SettingsError(
                "Earth Engine was initialized in this process with other settings; a process has one session at a time "
                "(ee.Reset() closes it)"
            )
        return ee


def _initialize(ee: Any, options: EarthEngineOptions) -> None:
    if not re.match(r"https?://[^/]", options.url):
        raise SettingsError(f"Earth Engine: {options.url!r} is not an http(s) URL; see DARTS_EARTH_ENGINE_URL")
    credentials, project = find_credentials(options)
    ee.data.setMaxRetries(0)
    try:
        # Not ee.Initialize: it requests a list of deprecated assets from a second host, without a timeout.
        ee.data.initialize(
            credentials=credentials,
            cloud_api_base_url=options.url.rstrip("/"),
            project=project,
            http_transport=_Transport(options),
        )
        ee.ApiFunction.initialize()
    except BaseException as error:
        ee.Reset()
        refusal = failure_of(error, f"project {project} at {options.url}")
        if not isinstance(refusal, EarthEngineError):
            raise
    else:
        return
    raise SettingsError(f"{refusal}; see DARTS_EARTH_ENGINE_PROJECT and DARTS_EARTH_ENGINE_URL")


class _Transport:
    """A thread-safe replacement of `httplib2.Http` for `ee`, on `requests`; raises built-in errors."""

    def __init__(self, options: EarthEngineOptions) -> None:
        self._options = options
        self._session = GuardedSession()

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Transport":
        # google-auth copies the transport to request the account's regions from another host of Google, in the
        # background, and works without them. Tokens of other services must not be sent there.
        if not (urlsplit(self._options.url).hostname or "").endswith(".googleapis.com"):
            raise TypeError(f"the transport to {self._options.url} is for that endpoint alone")
        return _Transport(self._options)

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None, **_: Any
    ) -> tuple[Any, bytes]:
        """Send a request; `requests` handles redirections and connection types, which httplib2 takes as arguments."""
        import httplib2
        import requests

        timeout = (_CONNECT_SECONDS, self._options.timeout)
        try:
            with self._session.request(method, uri, data=body, headers=headers, timeout=timeout, stream=True) as answer:
                content = read_body(answer, f"{method} {shown(uri)}", MAX_PAGE_BYTES)
        except requests.RequestException as error:
            failure = connection_failure(error, uri, timeout)
        else:
            response = httplib2.Response({**answer.headers, "status": str(answer.status_code)})
            response.reason = answer.reason
            return response, content
        # Not chained: the original holds the request with its headers. Libraries in between expect built-in errors.
        raise (ConnectionRefusedError if failure.unreachable else ConnectionError)(str(failure))
