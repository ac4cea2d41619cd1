"""Resources: where things are and what is available, handed to assets. They open; the domain rooms do."""

import os
from dataclasses import replace
from functools import cached_property
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from dagster import ResourceDependency

from darts_assets.errors import SettingsError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place

if TYPE_CHECKING:
    from darts_assets.earth_engine import EarthEngineOptions
    from darts_assets.model import CheckpointHeader, ModelDescription
    from darts_assets.model.header import Terrain
    from darts_assets.sources import S3Options, SourceOptions
    from darts_assets.sources.stac.scene_selection import SceneCatalog


class Store(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The root of everything that is written."""

    url: str
    endpoint: str | None = None
    region: str | None = None

    @property
    def root(self) -> StoreLocation:
        """The store's location."""
        return StoreLocation(self.url, self.endpoint, self.region)

    def place(self, *parts: str) -> Place:
        """The place of `parts` below the root."""
        return Place(self.root.child(*parts))


Provider = Literal["cdse", "earth_search", "earth_engine", "cdse_mosaic"]

CDSE_ENDPOINT = "https://eodata.dataspace.copernicus.eu"

_CDSE: dict[str, Any] = {"endpoint": CDSE_ENDPOINT}
_OWN_S3 = MappingProxyType(
    {"cdse": _CDSE, "cdse_mosaic": _CDSE, "earth_search": {"anonymous": True, "region": "us-west-2"}}
)
"""Provider -> where its `s3://` is, unless the settings name another service."""

_QUOTED = ("cdse", "cdse_mosaic")
"""Providers that count a user's connections: one for each slot of the pool `cdse`."""

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE")


class SourceAccess(dg.ConfigurableResource):  # type: ignore[type-arg]
    """How files and pixels of scenes are reached; holds no secrets.

    Keys for S3 come from the AWS environment variables, those for Earth Engine from Google's.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    profile: str | None = None
    connections: int | None = None
    earth_engine_project: str | None = None
    earth_engine_url: str | None = None
    earth_engine_key_file: str | None = None

    @property
    def options(self) -> "S3Options":
        """How files that belong to no provider are reached: items that are registered by their URL, areas."""
        from darts_assets.sources import S3Options

        options = S3Options(self.endpoint, self.region, self.anonymous, self.profile)
        return replace(options, connections=self.connections) if self.connections else options

    def options_for(self, provider: str) -> "SourceOptions":
        """How the files and pixels of a provider's scenes are reached (`Scene.source`)."""
        from darts_assets.sources import SourceOptions

        s3 = self.options
        if self.endpoint is None and provider in _OWN_S3:
            s3 = replace(s3, **_OWN_S3[provider])
        if self.connections is None and provider in _QUOTED:
            s3 = replace(s3, connections=1)
        return SourceOptions(s3=s3, earth_engine=self.earth_engine)

    @property
    def earth_engine(self) -> "EarthEngineOptions":
        """How to talk to Earth Engine."""
        return earth_engine_options(self.earth_engine_project, self.earth_engine_url, self.earth_engine_key_file)


class SceneCatalogs(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The catalogs in which scenes are found, and which of them is asked where nobody says.

    Attributes:
        keys_are_of_store: whether keys in the environment are the store's, and say nothing about CDSE.
    """

    access: ResourceDependency[SourceAccess]
    cdse_url: str | None = None
    earth_search_url: str | None = None
    pause: float | None = None
    keys_are_of_store: bool = False
    offline: bool = False

    def default(self) -> tuple[Provider, str]:
        """The provider that is asked for tiles and areas where nobody says, and why.

        CDSE wants keys for its files: without, its scenes would be found and could not be read.
        """
        access = self.access
        found = next((name for name in _KEYS if os.environ.get(name)), None)
        if access.anonymous:
            return "earth_search", "DARTS_SOURCE_ANONYMOUS is set, and CDSE wants keys"
        if access.profile:
            return "cdse", "DARTS_SOURCE_PROFILE names keys to scenes"
        if found and (access.endpoint or not self.keys_are_of_store):
            return "cdse", f"{found} is set"
        if found:
            return "earth_search", f"{found} is taken for the store's; DARTS_SOURCE_PROFILE would name keys to CDSE"
        return "earth_search", f"it needs no account, and there are no keys to CDSE ({' or '.join(_KEYS[:2])})"

    def open(self, provider: Provider, earth_engine_collection: str) -> "SceneCatalog":
        """The catalog of a provider.

        Raises:
            SettingsError: offline, or if Earth Engine has no such collection of scenes.
        """
        if self.offline:
            raise SettingsError(f"offline (DARTS_OFFLINE), {provider} is not asked for scenes: name registered ones")
        if provider == "earth_engine":
            from darts_assets.sources.earth_engine.catalog import EarthEngineCatalog

            return EarthEngineCatalog(self.access.earth_engine, earth_engine_collection)
        from darts_assets.sources.stac.search import StacCatalog
        from darts_assets.sources.stac.services import SERVICES

        url = self.earth_search_url if provider == "earth_search" else self.cdse_url
        return StacCatalog(SERVICES[provider], url=url, pause=self.pause)


def earth_engine_options(project: str | None, url: str | None, key_file: str | None) -> "EarthEngineOptions":
    """Options of Earth Engine from settings; all that use it in a process must have the same."""
    from darts_assets.earth_engine import EarthEngineOptions

    options = EarthEngineOptions(project=project, key_file=key_file)
    return replace(options, url=url) if url else options


class Models(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The segmentation ensemble, read without torch.

    Attributes:
        checkpoints: `NAME=CHECKPOINT` or `CHECKPOINT`, as `model.local_checkpoint` takes it; empty for the demo's.
    """

    store: ResourceDependency[Store]
    checkpoints: list[str] = []  # noqa: RUF012 - pydantic copies defaults

    @cached_property
    def headers(self) -> "list[CheckpointHeader]":
        """Headers of the checkpoints, with their digests; checkpoints on S3 are downloaded.

        Raises:
            CheckpointError: if a checkpoint cannot be used.
            SourceUnavailableError: if a checkpoint is on S3, which does not answer.
        """
        from darts_assets.model import local_checkpoint, read_header

        return [read_header(local_checkpoint(checkpoint, self.store.root), name) for name, checkpoint in self._named()]

    @cached_property
    def descriptions(self) -> "list[ModelDescription]":
        """Descriptions of the models; reads the pickles of the checkpoints only, and raises as `headers` does."""
        from darts_assets.model import open_checkpoint, read_description

        descriptions = []
        for name, checkpoint in self._named():
            with open_checkpoint(checkpoint, self.store.root) as (file, label):
                descriptions.append(read_description(file, label, PurePath(label).stem if name is None else name))
        return descriptions

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands that the ensemble needs."""
        from darts_assets.model import required_bands

        return required_bands(self.descriptions)

    @property
    def terrain(self) -> "Terrain":
        """The terrain convention that the ensemble was trained on."""
        from darts_assets.model import terrain_convention

        return terrain_convention(self.descriptions)

    def _named(self) -> list[tuple[str | None, str]]:
        """Name (None for the file's stem) and location of each checkpoint."""
        from darts_assets.demo import DEMO_CHECKPOINT

        return [_split_name(text) for text in self.checkpoints] or [("demo", str(DEMO_CHECKPOINT))]


def _split_name(text: str) -> tuple[str | None, str]:
    name, separator, checkpoint = text.partition("=")
    # A name has no slash: `s3://bucket/epoch=3.ckpt` is a checkpoint without a name.
    return (name, checkpoint) if separator and "/" not in name else (None, text)
