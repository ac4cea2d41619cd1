"""Access to S3 services: options, keys, signatures, and messages for refused keys.

botocore searches keys in its usual order: the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
`AWS_SESSION_TOKEN`), a profile (`AWS_PROFILE`) of the shared credentials file, the role of the machine. The profile of
`S3Options` precedes all of them, so that scenes and the store may have different keys. On Kubernetes, a secret is set
as these variables (`envFrom`), or mounted as a credentials file (`AWS_SHARED_CREDENTIALS_FILE`).
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
from darts_assets.redaction import shown

MAX_CONNECTIONS = 4
"""Simultaneous connections to one service; CDSE's limit per user."""

_SERVICE = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_FROM_PROFILE = {"shared-credentials-file", "config-file", "custom-process", "assume-role", "sso", "login"}
_DENIED = {"AccessDenied", "AllAccessDisabled", ""}


@dataclass(frozen=True, slots=True)
class S3Options:
    """Access to files on S3, and to web servers that require tokens; holds no keys, botocore finds them.

    Attributes:
        endpoint: URL of an S3-compatible service, addressed path-style; None for AWS.
        region: region of the bucket, None for the environment's.
        anonymous: whether requests are unsigned, for public buckets.
        profile: profile of the shared credentials file; None for the keys of the environment.
        connections: largest number of open connections of this process. Processes are not coordinated: the service sees
            this number times the number of processes (the slots of a Dagster pool).
        token_service: URL of a service with tokens for `https://` files, see `sas_tokens`; None for no tokens.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    profile: str | None = None
    connections: int = MAX_CONNECTIONS
    token_service: str | None = None

    def __post_init__(self) -> None:
        if self.connections < 1:
            raise SettingsError(f"connections to a source must be at least 1, not {self.connections}")
        if self.endpoint is not None:
            object.__setattr__(self, "endpoint", service_url(self.endpoint))

    @property
    def service(self) -> str:
        """Name of the service for messages."""
        return "Amazon S3" if self.endpoint is None else urlsplit(self.endpoint).netloc.rpartition("@")[2]


class S3Keys(AuthBase):
    """Signs requests.

    Args:
        s3: access to the service.

    Raises:
        SettingsError: if there are no keys, only half of them, or no such profile.
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
        """Sign a request without a body."""
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest

        unsigned = AWSRequest(request.method, request.url, headers=dict(request.headers))
        S3SigV4Auth(self._frozen(), "s3", self.region).add_auth(unsigned)
        request.headers.update(dict(unsigned.headers.items()))
        return request

    def for_gdal(self) -> dict[str, str]:
        """The keys as GDAL options; not to be cached, because they may expire."""
        keys = self._frozen()
        return {
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            # Empty if there is none: GDAL would use the one in the environment, which belongs to other keys.
            "AWS_SESSION_TOKEN": keys.token or "",
            "AWS_REGION": self.region,
        }

    def _frozen(self) -> Any:
        from botocore.exceptions import BotoCoreError

        try:
            return self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise SettingsError(f"{self.origin} cannot be renewed: {error}") from None


def service_url(url: str) -> str:
    """The URL of an S3 service with a lower-case scheme and without a trailing slash.

    Raises:
        SettingsError: if it is not `http(s)://HOST[:PORT][/PATH]`; clients would end with an error of their own.
    """
    scheme, _, rest = url.partition("://")
    tidy = f"{scheme.lower()}://{rest.rstrip('/')}"
    if not _SERVICE.fullmatch(tidy):
        raise SettingsError(
            f"{shown(url)!r} is not the URL of an S3 service; expected https://HOST or http://HOST:PORT, without "
            "blanks, '?' and '#'"
        )
    return tidy


def split_s3_url(url: str) -> tuple[str, str]:
    """Bucket and key (or prefix) of `s3://bucket/key`, character by character: keys may contain `#`, `?` and `%`."""
    bucket, _, key = url.partition("://")[2].partition("/")
    return bucket, key


def object_url(href: str, s3: S3Options, region: str) -> str:
    """The URL of `s3://bucket/key`, path-style."""
    endpoint = s3.endpoint or f"https://s3.{region}.amazonaws.com"
    return f"{endpoint.rstrip('/')}/{quote(href.removeprefix('s3://'), safe='/~')}"


def refusal(href: str, s3: S3Options, keys: S3Keys | None, status: int, body: str) -> SettingsError:
    """The error for HTTP status 401 or 403 of an S3 service; `body` is the response, which may contain the key."""
    match = _CODE.search(body)
    code = match[1] if match else ""
    response = f"(HTTP {status}{f' {code}' if code else ''})"
    where = f"{s3.service}, {href}"
    if keys is None:
        return SettingsError(f"{where}: it cannot be read without keys {response}")
    if code in _DENIED:
        return SettingsError(f"{where}: {keys.origin} have no access, or it does not exist {response}")
    return SettingsError(f"{where}: {keys.origin} are refused {response}")


@lru_cache(maxsize=4)
def _find(profile: str | None, environment: frozenset[tuple[str, str]]) -> tuple[Any, str, str]:
    """Credentials, their origin in words, and the region; `environment` is a part of the cache's key only."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session(profile=profile)
    try:
        credentials = session.get_credentials()
        # botocore ignores AWS_REGION, unlike other clients.
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region") or "us-east-1"
    except BotoCoreError as error:
        raise SettingsError(f"keys for S3: {error}") from None
    method = getattr(credentials, "method", "")
    if method == "env":
        return credentials, "the keys in AWS_ACCESS_KEY_ID", region
    if method in _FROM_PROFILE:
        return credentials, f"the keys of the AWS profile {session.profile or 'default'}", region
    return credentials, f"the keys from {method}", region
