"""Settings from the environment (`DARTS_*`): locations, credentials and limits.

How scenes are processed is set in the Dagster config of the assets.
"""

import difflib
import json
import os
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.errors import SettingsError
from darts_assets.stores.location import StoreLocation

_KUBERNETES = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$")


class Settings(BaseSettings):
    """Settings from the environment; the field `x` is read from `DARTS_X`."""

    model_config = SettingsConfigDict(env_prefix="DARTS_", frozen=True, extra="ignore")

    store: str = Field(default="darts-data", description="Root of all output: a path or s3://bucket/prefix.")
    store_endpoint: str | None = Field(
        default=None, description="URL of the store's S3-compatible service. Default: AWS."
    )
    store_region: str | None = Field(default=None, description="S3 region of the store.")
    keep_replaced_hours: float = Field(
        default=24,
        ge=0,
        description="Hours for which replaced versions of tiles and products are kept, for readers that use them.",
    )
    raw_store: bool = Field(
        default=True, description="Store raw scenes; if off, they are read from the source each time."
    )
    models: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Model checkpoints, comma-separated: a path, s3://bucket/key, or the name of a model in the store, "
        "optionally as NAME=LOCATION. Required to segment scenes outside of a demo.",
    )
    auxiliary: Annotated[tuple[AuxiliaryLayer, ...], NoDecode] = Field(
        default=AUXILIARY_LAYERS, description="Auxiliary layers to use, comma-separated, or 'none'."
    )
    arcticdem: str = Field(
        default="https://stac.pgc.umn.edu/api/v1/",
        description="ArcticDEM mosaic tiles: a STAC API, static catalog, item collection, folder of items, or tile "
        "index. Default: the Polar Geospatial Center's API, which needs no account.",
    )
    arcticdem_resolution: Literal[2, 10, 32] | None = Field(
        default=None, description="Resolution of ArcticDEM in metres. Default: 10 for Sentinel-2, 2 for Planet."
    )
    tcvis: str | None = Field(
        default=None, description="Path or URL, with {vintage}, of TCVIS rasters. Default: Earth Engine."
    )
    earth_engine_project: str | None = Field(
        default=None, description="Google Cloud project. Default: that of the credentials."
    )
    earth_engine_url: str | None = Field(
        default=None, description="URL of Earth Engine. Default: its high-volume endpoint."
    )
    earth_engine_key_file: str | None = Field(
        default=None, description="JSON key file of a Google service account. Default: Google's default credentials."
    )
    source_endpoint: str | None = Field(
        default=None, description="URL of the S3 service of the scenes. Default: by provider."
    )
    source_region: str | None = Field(default=None, description="S3 region of the scenes.")
    source_anonymous: bool = Field(default=False, description="Read scenes from S3 without signing requests.")
    source_profile: str | None = Field(
        default=None, description="AWS profile for the scenes. Default: AWS environment."
    )
    source_connections: int | None = Field(
        default=None, ge=1, description="Connections per source. Default: 1 for CDSE, else 4."
    )
    cdse_url: str | None = Field(default=None, description="URL of CDSE's STAC API. Default: the public one.")
    earth_search_url: str | None = Field(
        default=None, description="URL of Earth Search's STAC API. Default: the public one."
    )
    catalog_pause: float | None = Field(
        default=None, ge=0, description="Seconds between requests to a scene catalog. Default: by catalog."
    )
    watch: str | None = Field(
        default=None, description="TOML file (path or URL) of areas whose new scenes are processed."
    )
    planet: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Folders (or s3://bucket/prefix) of Planet's deliveries, comma-separated; jobs search them, the "
        "sensor watches them.",
    )
    notify_webhook: SecretStr | None = Field(
        default=None, description="URL to post failed runs to, as JSON. Default: none."
    )
    ui_url: str | None = Field(default=None, description="URL of Dagster's UI, for links to runs in notifications.")
    offline: bool = Field(default=False, description="Fetch nothing; a scene with missing data fails.")
    executor: Literal["in_process", "multiprocess", "k8s", "k8s_per_run"] = Field(
        default="in_process", description="Executor of the steps of a run."
    )
    scenes_per_run: int = Field(default=8, ge=1, description="Scenes per segmentation run; the models are loaded once.")
    k8s_executor: Annotated[dict[str, Any], NoDecode] = Field(
        default_factory=dict, description="Default config of `k8s_job_executor`, as JSON."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, values: dict[str, object]) -> dict[str, object]:
        """Blanks and line ends around values, as in secrets of Kubernetes, do not count; empty values are not set."""
        tidy = {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
        return {name: value for name, value in tidy.items() if value != "" or name == "auxiliary"}

    @field_validator("models", "planet", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return _split(value)

    @field_validator("k8s_executor", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _split_auxiliary(cls, value: object) -> object:
        return () if value in ("none", "") else _split(value)

    @property
    def root(self) -> StoreLocation:
        """The store's root, with an absolute path, so that all workers use the same."""
        location = StoreLocation(self.store, self.store_endpoint, self.store_region)
        return replace(location, url=str(location.path)) if location.is_local else location

    @property
    def watch_file(self) -> str | None:
        """`watch`, with an absolute path."""
        return self.watch and _absolute(self.watch)

    @property
    def planet_folders(self) -> list[str]:
        """`planet`, with absolute paths."""
        return [_absolute(folder) for folder in self.planet]


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).expanduser().resolve())


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _is_known(name: str) -> bool:
    """Whether a variable is a setting, one of tests, or describes a service of Kubernetes called `darts-...`."""
    is_setting = name.removeprefix("DARTS_").lower() in Settings.model_fields
    return is_setting or name.startswith("DARTS_ASSETS_") or bool(_KUBERNETES.search(name))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: with each invalid environment variable, and each that starts with `DARTS_` and is not a setting.
    """
    unknown = [name for name in os.environ if name.upper().startswith("DARTS_") and not _is_known(name.upper())]
    if unknown:
        names = [f"DARTS_{field.upper()}" for field in Settings.model_fields]
        pairs = [(name, difflib.get_close_matches(name.upper(), names, 1)) for name in unknown]
        problems = "; ".join(
            f"{name} is not a setting{f', did you mean {near[0]}?' if near else ''}" for name, near in pairs
        )
        raise SettingsError(f"settings from the environment: {problems}")
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"DARTS_{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"settings from the environment: {problems}") from None
