"""S3 as users of boto know it: where a service is, and the keys to it; the same ones for our requests and for GDAL's.

botocore looks for keys where it always does, first come first served: the environment (`AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), a profile (`AWS_PROFILE`) of the shared credentials file, the machine's
role. A profile that `S3Options` names comes before all of them, so that scenes and the store may have different keys. A
Kubernetes secret reaches a pod as those variables (`envFrom`), or mounted as a credentials file that
`AWS_SHARED_CREDENTIALS_FILE` names.
"""

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from requests import PreparedRequest
from requests.auth import AuthBase

from darts_assets.errors import SettingsError

MAX_CONNECTIONS = 4
"""Simultaneous connections to one service: what CDSE grants a user."""

_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_FROM_PROFILE = {"shared-credentials-file", "config-file", "custom-process", "assume-role", "sso", "login"}
_DENIED = {"AccessDenied", "AllAccessDisabled", ""}


@dataclass(frozen=True, slots=True)
class S3Options:
    """How `s3://` is reached; keys are found by botocore and never kept here.

    Attributes:
        endpoint: URL of an S3-compatible service, addressed path-style; None for AWS.
        region: region of the bucket, None for the environment's.
        anonymous: whether requests are unsigned, as public buckets need without an account.
        profile: profile of the shared credentials file, None for the keys that the environment gives.
        connections: most connections that this process has open at a time. Processes do not know of each other: that
            times the processes (the slots of a pool) is what the service sees.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    profile: str | None = None
    connections: int = MAX_CONNECTIONS

    def __post_init__(self) -> None:
        if self.connections < 1:
            raise SettingsError(f"connections to a source must be at least 1, not {self.connections}")
        if self.endpoint is not None and urlsplit(self.endpoint).scheme not in ("http", "https"):
            raise SettingsError(f"{self.endpoint!r} is no URL of an S3 service; https://... was expected")

    @property
    def service(self) -> str:
        """The service's name for messages."""
        return "Amazon S3" if self.endpoint is None else urlsplit(self.endpoint).netloc


class S3Keys(AuthBase):
    """Signs requests.

    Args:
        s3: how the service is reached.

    Raises:
        SettingsError: if there are no keys, or half of them, or no such profile.
    """

    def __init__(self, s3: S3Options) -> None:
        environment = frozenset(item for item in os.environ.items() if item[0].startswith("AWS_"))
        self._credentials, self.origin, region = _find(s3.profile, environment)
        if self._credentials is None:
            raise SettingsError(
                f"{s3.service}: there are no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE "
                "(public buckets can be read anonymously: DARTS_SOURCE_ANONYMOUS=true)"
            )
        self.region = s3.region or region

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the signature's headers to a request without a body."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        unsigned = AWSRequest(request.method, request.url, headers=dict(request.headers))
        S3SigV4Auth(self._frozen(), "s3", self.region).add_auth(unsigned)
        request.headers.update(dict(unsigned.headers.items()))
        return request

    def for_gdal(self) -> dict[str, str]:
        """The same keys as options of GDAL; not to be kept, because they may expire."""
        keys = self._frozen()
        return {
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            # Empty where there is none: GDAL would take another identity's from the environment.
            "AWS_SESSION_TOKEN": keys.token or "",
            "AWS_REGION": self.region,
        }

    def _frozen(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise SettingsError(f"{self.origin} cannot be renewed: {error}") from None


def object_url(href: str, s3: S3Options, region: str) -> str:
    """The URL of `s3://bucket/key`, path-style."""
    endpoint = s3.endpoint or f"https://s3.{region}.amazonaws.com"
    return f"{endpoint.rstrip('/')}/{quote(href.removeprefix('s3://'), safe='/~')}"


def refusal(href: str, s3: S3Options, keys: S3Keys | None, status: int, body: str) -> SettingsError:
    """What to say of an S3 service that answers 401 or 403; `body` is its answer, which may repeat the key."""
    found = _CODE.search(body)
    code = found[1] if found else ""
    said = f"(HTTP {status}{f' {code}' if code else ''})"
    where = f"{s3.service}, {href}"
    if keys is None:
        return SettingsError(f"{where}: it cannot be read without keys {said}")
    if code in _DENIED:
        return SettingsError(f"{where}: {keys.origin} do not open it, or it does not exist {said}")
    return SettingsError(f"{where}: {keys.origin} are refused {said}")


@lru_cache(maxsize=4)
def _find(profile: str | None, environment: frozenset[tuple[str, str]]) -> tuple[Any, str, str]:
    """Credentials, in words where they come from, and the region; `environment` makes a change of it seen."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session(profile=profile)
    try:
        credentials = session.get_credentials()
        # botocore does not know AWS_REGION, which everybody else does.
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    except BotoCoreError as error:
        raise SettingsError(f"keys for S3: {error}") from None
    method = getattr(credentials, "method", "")
    if method == "env":
        return credentials, "the keys in AWS_ACCESS_KEY_ID", region
    if method in _FROM_PROFILE:
        return credentials, f"the keys of the AWS profile {session.profile or 'default'}", region
    return credentials, f"the keys from {method}", region
