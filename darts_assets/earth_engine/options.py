"""How to talk to Earth Engine."""

from dataclasses import dataclass

HIGH_VOLUME = "https://earthengine-highvolume.googleapis.com"
"""The endpoint that is made for many small requests at once."""


@dataclass(frozen=True)
class EarthEngineOptions:
    """How to talk to Earth Engine. Says where secrets are, holds none.

    Attributes:
        project: the Google Cloud project that is charged; None for the one that the credentials name.
        url: the service's endpoint.
        key_file: the JSON key of a service account; None to look elsewhere (see `credentials`).
        timeout: seconds without a byte after which an attempt has failed.
    """

    project: str | None = None
    url: str = HIGH_VOLUME
    key_file: str | None = None
    timeout: float = 300
