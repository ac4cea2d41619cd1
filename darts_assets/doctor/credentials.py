"""Checks of credentials for scenes and for Earth Engine: whether they exist, their origin, whether they are valid."""

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from darts_assets.doctor.findings import Finding
from darts_assets.doctor.web import TIMEOUT, error_code
from darts_assets.errors import DartsError, SettingsError
from darts_assets.orchestration.core.resources import SceneCatalogs

if TYPE_CHECKING:
    from darts_assets.earth_engine import EarthEngineOptions
    from darts_assets.sources import S3Options

_WRONG = {
    "ExpiredToken": "have expired",
    "TokenRefreshRequired": "have expired",
    "InvalidAccessKeyId": "are unknown to the service",
    "SignatureDoesNotMatch": "have a wrong secret",
    "InvalidToken": "have a wrong session token",
    "RequestTimeTooSkewed": "are refused, because the clock of this machine is wrong",
}
_NO_KEYS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or DARTS_SOURCE_PROFILE"


def check_scene_keys(catalogs: SceneCatalogs) -> Iterator[Finding]:
    """Check the S3 keys of CDSE or of the service in `DARTS_SOURCE_ENDPOINT`."""
    provider, why = catalogs.default()
    access = catalogs.access
    if provider != "cdse":
        yield Finding("keys to scenes", "ok", f"not needed: the catalog is Earth Search, because {why}")
        return
    from darts_assets.remote.s3_auth import S3Keys

    s3 = access.options_for("cdse").s3
    try:
        keys = S3Keys(s3)
    except SettingsError as error:
        yield Finding("keys to scenes", "fail", str(error), f"{_NO_KEYS}.")
        return
    message = f"{keys.origin}, to {s3.service}"
    if catalogs.offline:
        yield Finding("keys to scenes", "ok", f"{message} (not tested: offline)")
        return
    yield _test_keys(s3, keys, message)


def _test_keys(s3: "S3Options", keys: Any, message: str) -> Finding:
    """Request the list of buckets. Valid keys may be denied it; invalid ones get a specific error code."""
    import requests

    from darts_assets.remote.responses import read_head
    from darts_assets.remote.s3_auth import object_url

    try:
        url = object_url("s3://", s3, keys.region)
        with requests.get(url, auth=keys, timeout=TIMEOUT, stream=True) as answer:
            status, body = answer.status_code, read_head(answer)
    except requests.RequestException:
        advice = "Check the network and HTTPS_PROXY, or set DARTS_OFFLINE=true."
        return Finding("keys to scenes", "fail", f"{s3.service} cannot be reached", advice)
    except DartsError as error:  # temporary keys that cannot be renewed
        return Finding("keys to scenes", "fail", str(error), f"{_NO_KEYS}.")
    code = error_code(body)
    if code in _WRONG:
        advice = f"{_NO_KEYS}, with new keys of {s3.service}."
        return Finding("keys to scenes", "fail", f"{message} {_WRONG[code]} (HTTP {status} {code})", advice)
    if status >= 500:
        return Finding(
            "keys to scenes", "warn", f"{message}: HTTP {status}", "The service has a problem; try again later."
        )
    return Finding("keys to scenes", "ok", f"{message}, are valid")


def check_earth_engine(options: "EarthEngineOptions", *, required: bool, offline: bool) -> Iterator[Finding]:
    """Check Earth Engine credentials if TCVIS comes from there. Offline, filled chunks need none."""
    if not required:
        yield Finding("Earth Engine", "skipped", "not used: TCVIS comes from rasters, or no model needs it")
        return
    from darts_assets.earth_engine.auth import find_credentials

    advice = "Without an account, leave TCVIS out: DARTS_AUXILIARY=arcticdem."
    try:
        with _no_metadata_server(offline):
            credentials, project = find_credentials(options)
        message = f"{_kind(credentials)} for project {project}"
        if offline:
            yield Finding("Earth Engine", "ok", f"{message} (not tested: offline)")
            return
        from darts_assets.earth_engine.session import initialized

        initialized(options)
    except SettingsError as error:
        needed = "warn" if offline else "fail"
        yield Finding("Earth Engine", needed, str(error), advice)  # type: ignore[arg-type]
    except Exception as error:  # service unavailable or token expired: the client raises many types
        from google.auth.exceptions import RefreshError

        expired = isinstance(error, RefreshError)
        words = "the credentials have expired or were revoked" if expired else "the service does not respond"
        renew = "Run `earthengine authenticate --force`, or create a new key of the service account. "
        yield Finding("Earth Engine", "fail", f"{message}: {words}", (renew if expired else "") + advice)
    else:
        yield Finding("Earth Engine", "ok", f"{message}, at {options.url}")


def _kind(credentials: Any) -> str:
    """Type and expiry of credentials, without the identity."""
    from google.oauth2 import credentials as user
    from google.oauth2 import service_account

    if isinstance(credentials, service_account.Credentials):
        return "a service account"
    kind = "a user's credentials" if isinstance(credentials, user.Credentials) else "the machine's credentials"
    expiry: dt.datetime | None = getattr(credentials, "expiry", None)
    return f"{kind} until {expiry:%Y-%m-%d %H:%M} UTC" if expiry else kind


@contextmanager
def _no_metadata_server(offline: bool) -> Iterator[None]:
    """Offline, keep the Google library from contacting its metadata server."""
    before = os.environ.get("NO_GCE_CHECK")
    if offline:
        os.environ["NO_GCE_CHECK"] = "true"
    try:
        yield
    finally:
        if offline:
            os.environ.pop("NO_GCE_CHECK", None)
            if before is not None:
                os.environ["NO_GCE_CHECK"] = before
