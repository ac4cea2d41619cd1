"""Keys to scenes and to Earth Engine: whether there are any, where they come from, whether services take them."""

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
    "InvalidAccessKeyId": "are not known there",
    "SignatureDoesNotMatch": "have a wrong secret",
    "InvalidToken": "have a wrong session token",
    "RequestTimeTooSkewed": "are refused, because this machine's clock is wrong",
}
_NO_KEYS = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or DARTS_SOURCE_PROFILE"


def check_scene_keys(catalogs: SceneCatalogs) -> Iterator[Finding]:
    """Keys to the files of CDSE, or to the service that `DARTS_SOURCE_ENDPOINT` names."""
    provider, why = catalogs.default()
    access = catalogs.access
    if provider != "cdse":
        yield Finding("keys to scenes", "ok", f"scenes come from Earth Search, without keys: {why}")
        return
    from darts_assets.remote.s3_auth import S3Keys

    s3 = access.options_for("cdse").s3
    try:
        keys = S3Keys(s3)
    except SettingsError as error:
        yield Finding("keys to scenes", "fail", str(error), f"{_NO_KEYS}.")
        return
    said = f"{keys.origin}, to {s3.service}"
    if catalogs.offline:
        yield Finding("keys to scenes", "ok", f"{said} (offline: not tried)")
        return
    yield _tried(s3, keys, said)


def _tried(s3: "S3Options", keys: Any, said: str) -> Finding:
    """Ask for the list of buckets: keys that are good may be denied it, others are told why they are not."""
    import requests

    from darts_assets.remote.s3_auth import object_url

    try:
        url = object_url("s3://", s3, keys.region)
        with requests.get(url, auth=keys, timeout=TIMEOUT) as answer:
            status, body = answer.status_code, answer.text[:2000]
    except requests.RequestException:
        advice = "See the network and HTTPS_PROXY; offline: DARTS_OFFLINE=true."
        return Finding("keys to scenes", "fail", f"{s3.service} is not reached", advice)
    except DartsError as error:  # keys that are renewed, and cannot be
        return Finding("keys to scenes", "fail", str(error), f"{_NO_KEYS}.")
    code = error_code(body)
    if code in _WRONG:
        advice = f"{_NO_KEYS}, to new keys of {s3.service}."
        return Finding("keys to scenes", "fail", f"{said} {_WRONG[code]} (HTTP {status} {code})", advice)
    if status >= 500:
        return Finding("keys to scenes", "warn", f"{said}: HTTP {status}", "The service has troubles of its own.")
    return Finding("keys to scenes", "ok", f"{said}, are taken")


def check_earth_engine(options: "EarthEngineOptions", *, wanted: bool, offline: bool) -> Iterator[Finding]:
    """Credentials for Earth Engine, where trends come from it; not offline, since what is filled needs none."""
    if not wanted:
        yield Finding("Earth Engine", "skipped", "not used: trends come from rasters, or no model needs them")
        return
    from darts_assets.earth_engine.auth import find_credentials

    advice = "Without an account, leave the trends out: DARTS_AUXILIARY=arcticdem."
    try:
        with _no_metadata_server(offline):
            credentials, project = find_credentials(options)
        said = f"{_kind(credentials)} for project {project}"
        if offline:
            yield Finding("Earth Engine", "ok", f"{said} (offline: not tried)")
            return
        from darts_assets.earth_engine.session import opened

        opened(options)
    except SettingsError as error:
        needed = "warn" if offline else "fail"
        yield Finding("Earth Engine", needed, str(error), advice)  # type: ignore[arg-type]
    except Exception as error:  # whatever the client raises for a service that does not answer, or tokens that expired
        from google.auth.exceptions import RefreshError

        expired = isinstance(error, RefreshError)
        words = "the credentials have expired or were withdrawn" if expired else "the service does not answer"
        renew = "Run `earthengine authenticate --force`, or make a new key of the service account. "
        yield Finding("Earth Engine", "fail", f"{said}: {words}", (renew if expired else "") + advice)
    else:
        yield Finding("Earth Engine", "ok", f"{said}, at {options.url}")


def _kind(credentials: Any) -> str:
    """What credentials are, and for how long they hold if they say so; never who or what they name."""
    from google.oauth2 import credentials as user
    from google.oauth2 import service_account

    if isinstance(credentials, service_account.Credentials):
        return "a service account"
    kind = "a user's credentials" if isinstance(credentials, user.Credentials) else "the machine's credentials"
    expiry: dt.datetime | None = getattr(credentials, "expiry", None)
    return f"{kind} until {expiry:%Y-%m-%d %H:%M} UTC" if expiry else kind


@contextmanager
def _no_metadata_server(offline: bool) -> Iterator[None]:
    """Offline, Google's library must not look for its metadata server."""
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
