"""The one session that a process has with Earth Engine: the client library keeps its state in its modules."""

import re
import threading
from typing import Any
from urllib.parse import urlsplit

from darts_assets.earth_engine.api_errors import EarthEngineError, failure_of
from darts_assets.earth_engine.auth import find_credentials
from darts_assets.earth_engine.options import EarthEngineOptions
from darts_assets.errors import SettingsError

_CONNECT_SECONDS = 10

_lock = threading.Lock()
_opened: EarthEngineOptions | None = None


def opened(options: EarthEngineOptions) -> Any:
    """The module `ee`, initialized with these options by the first caller; `ee.Reset()` closes the session.

    `ee` then makes no retries of its own.

    Raises:
        SettingsError: if there are no credentials or no project, if the service refuses them, if the URL is none, or if
            `ee` has been initialized in another way.
        Exception: whatever `ee` raises for a service that is not available, see `failures`.
    """
    global _opened
    import ee

    with _lock:
        if not ee.data.is_initialized():
            _open(ee, options)
            _opened = options
        elif _opened != options:
            raise SettingsError(
                "Earth Engine has been initialized in this process with other settings; a process can have one session "
                "at a time (ee.Reset() closes it)"
            )
        return ee


def _open(ee: Any, options: EarthEngineOptions) -> None:
    if not re.match(r"https?://[^/]", options.url):
        raise SettingsError(f"Earth Engine: {options.url!r} is no URL of a service; see DARTS_EARTH_ENGINE_URL")
    credentials, project = find_credentials(options)
    ee.data.setMaxRetries(0)
    try:
        # Not ee.Initialize: it asks a second host, without a timeout, which assets are deprecated.
        ee.data.initialize(
            credentials=credentials,
            cloud_api_base_url=options.url.rstrip("/"),
            project=project,
            http_transport=_Transport(options),
        )
        ee.ApiFunction.initialize()
    except BaseException as error:
        ee.Reset()  # half a session is none
        refusal = failure_of(error, f"project {project} at {options.url}")
        if not isinstance(refusal, EarthEngineError):
            raise
    else:
        return
    raise SettingsError(f"{refusal}; see DARTS_EARTH_ENGINE_PROJECT and DARTS_EARTH_ENGINE_URL")


class _Transport:
    """What `ee` takes for an `httplib2.Http`; unlike that one it may be shared by threads. Errors are built-in ones."""

    def __init__(self, options: EarthEngineOptions) -> None:
        import requests

        self._options = options
        self._session = requests.Session()

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Transport":
        # google-auth copies the transport to ask another host of Google's, in the background, for the regions that the
        # account is bound to, and does without where it cannot. Somebody else's token is none of Google's business.
        if not (urlsplit(self._options.url).hostname or "").endswith(".googleapis.com"):
            raise TypeError(f"the transport to {self._options.url} is for that endpoint alone")
        return _Transport(self._options)

    def request(
        self, uri: str, method: str = "GET", body: Any = None, headers: dict[str, str] | None = None, **_: Any
    ) -> tuple[Any, bytes]:
        """Send a request; redirections and connection types, which httplib2 knows, are left to `requests`."""
        import httplib2
        import requests

        timeout = (_CONNECT_SECONDS, self._options.timeout)
        try:
            answer = self._session.request(method, uri, data=body, headers=headers, timeout=timeout)
        except requests.Timeout:
            failure: OSError = TimeoutError(f"no answer from {uri.partition('?')[0]} in time")
        except requests.RequestException as error:
            failure = ConnectionError(str(error))
        else:
            response = httplib2.Response({**answer.headers, "status": str(answer.status_code)})
            response.reason = answer.reason
            return response, answer.content
        raise failure  # not chained: it would hold the request, with its headers
