"""Options of the connection to Earth Engine."""

from dataclasses import dataclass

HIGH_VOLUME = "https://earthengine-highvolume.googleapis.com"
"""Endpoint for many small concurrent requests."""


@dataclass(frozen=True)
class EarthEngineOptions:
    """Connection to Earth Engine; holds paths of secrets, never secrets.

    Attributes:
        project: the Google Cloud project to charge; None for the project of the credentials.
        url: endpoint of the service.
        key_file: JSON key of a service account; None for other credentials (see `auth`).
        timeout: seconds without a byte after which an attempt fails.
    """

    project: str | None = None
    url: str = HIGH_VOLUME
    key_file: str | None = None
    timeout: float = 300
