"""Where things are: typed settings from the environment, `DARTS_*`.

These say where data lives and what is available. *How* scenes are processed is Dagster config of the assets.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.errors import SettingsError
from darts_assets.stores.location import StoreLocation


class Settings(BaseSettings):
    """Settings from the environment; every field `x` is read from `DARTS_X`."""

    model_config = SettingsConfigDict(env_prefix="DARTS_", frozen=True, extra="ignore")

    store: str = Field(default="darts-data", description="Root of everything written: a path or s3://bucket/prefix.")
    store_endpoint: str | None = Field(default=None, description="URL of an S3-compatible service.")
    store_region: str | None = Field(default=None, description="S3 region.")
    raw_store: bool = Field(default=True, description="Keep raw scenes; off = read the source again each time.")
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Checkpoints, comma-separated, each a path, s3://bucket/key, or the name of a model of the store; "
        "NAME=... names them. Default: the shipped demo model.",
    )
    auxiliary: Annotated[tuple[AuxiliaryLayer, ...], NoDecode] = Field(
        default=AUXILIARY_LAYERS, description="Auxiliary layers in use, comma-separated; 'none' runs without."
    )
    arcticdem: str = Field(
        default="https://stac.pgc.umn.edu/api/v1/",
        description="ArcticDEM mosaic tiles: a STAC API, a static catalog, item collection or folder of items, or an "
        "index of tiles. Default: the Polar Geospatial Center's API, which needs no account.",
    )
    arcticdem_resolution: Literal[2, 10, 32] | None = Field(
        default=None, description="Metres; default: what suits the scenes (10 for Sentinel-2, 2 for Planet)."
    )
    tcvis: str | None = Field(
        default=None, description="TCVIS rasters: a path or URL with {vintage} in it. Default: Earth Engine."
    )
    earth_engine_project: str | None = Field(
        default=None, description="Google Cloud project that Earth Engine charges; default: the credentials'."
    )
    earth_engine_url: str | None = Field(
        default=None, description="URL of Earth Engine; default: its high-volume endpoint."
    )
    earth_engine_key_file: str | None = Field(
        default=None, description="JSON key of a Google service account; default: Google's credentials as found."
    )
    source_endpoint: str | None = Field(default=None, description="URL of the S3 service that scenes are read from.")
    source_region: str | None = Field(default=None, description="S3 region that scenes are read from.")
    source_anonymous: bool = Field(default=False, description="Read scenes from S3 without signing requests.")
    source_profile: str | None = Field(
        default=None, description="AWS profile with the keys to scenes; default: the keys that the environment gives."
    )
    source_connections: int | None = Field(
        default=None, ge=1, description="Connections of a process to a source; default: 1 to CDSE, 4 to others."
    )
    cdse_url: str | None = Field(default=None, description="STAC API of CDSE; default: the public one.")
    earth_search_url: str | None = Field(default=None, description="STAC API of Earth Search; default: the public one.")
    catalog_pause: float | None = Field(
        default=None, ge=0, description="Seconds between requests to a catalog of scenes; default: what suits it."
    )
    watch: str | None = Field(
        default=None, description="File (TOML), a path or URL, of the areas whose new scenes are mapped as they appear."
    )
    planet: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Folders, or s3://bucket/prefix, that Planet's deliveries arrive in, comma-separated: searched for "
        "images, and watched if the sensor is on.",
    )
    notify_webhook: SecretStr | None = Field(
        default=None, description="URL that is told of failed runs, by a POST of JSON. Default: only the log is."
    )
    ui_url: str | None = Field(default=None, description="URL of Dagster's UI, for links to runs in what is told.")
    offline: bool = Field(default=False, description="Never fetch anything; what is missing fails the scene.")
    executor: Literal["in_process", "multiprocess", "k8s", "k8s_per_run"] = Field(
        default="in_process", description="How the steps of a run execute."
    )
    scenes_per_run: int = Field(
        default=8, ge=1, description="Scenes that a run of a backfill segments, with the models loaded once."
    )
    k8s_executor: Annotated[dict[str, Any], NoDecode] = Field(
        default_factory=dict, description="Config of `k8s_job_executor` for runs that do not say otherwise, as JSON."
    )

    @field_validator("models", "planet", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return _split(value)

    @field_validator("k8s_executor", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _split_auxiliary(cls, value: object) -> object:
        return () if value in ("none", "") else _split(value)

    @property
    def root(self) -> StoreLocation:
        """The store's root; a relative path is taken from the current folder once, so that workers agree."""
        return StoreLocation(_absolute(self.store), self.store_endpoint, self.store_region)

    @property
    def watch_file(self) -> str | None:
        """`watch`, with a relative path taken from the current folder once."""
        return self.watch and _absolute(self.watch)

    @property
    def planet_folders(self) -> list[str]:
        """`planet`, with relative paths taken from the current folder once."""
        return [_absolute(folder) for folder in self.planet]


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).expanduser().resolve())


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: naming each environment variable that makes no sense.
    """
    try:
        return Settings()
    except ValidationError as error:
        said = "; ".join(f"DARTS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"settings from the environment: {said}") from None
