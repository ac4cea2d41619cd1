"""Resources: locations and services for assets. They open things; the domain rooms do the work."""

import os
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import dagster as dg
from dagster import ResourceDependency

from darts_assets.errors import SettingsError
from darts_assets.redaction import revealed
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.replaced_versions import place_at

if TYPE_CHECKING:
    from darts_assets.earth_engine import EarthEngineOptions
    from darts_assets.model import CheckpointHeader, ModelDescription
    from darts_assets.model.header import Terrain
    from darts_assets.sources import S3Options, SourceOptions
    from darts_assets.sources.stac.scene_selection import SceneCatalog


class Room(dg.Config):
    """A folder of the store that lies elsewhere."""

    url: str
    endpoint: str | None = None
    region: str | None = None

    @property
    def location(self) -> StoreLocation:
        """Its location."""
        return StoreLocation(self.url, self.endpoint and revealed(self.endpoint), self.region)


class Store(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The store: root of all output.

    Attributes:
        rooms: folders that lie elsewhere: `aux`, `raw`, `products`, `models`.
        files_url: URL at which a web server serves the folders of the store, without a final slash.
    """

    url: str
    endpoint: str | None = None
    region: str | None = None
    rooms: dict[str, Room] = {}  # noqa: RUF012 - pydantic copies defaults
    keep_replaced_hours: float = 24
    keep_tiles: str = "all"
    files_url: str | None = None

    @property
    def root(self) -> StoreLocation:
        """The store's location."""
        rooms = tuple((name, room.location) for name, room in self.rooms.items())
        return StoreLocation(self.url, self.endpoint and revealed(self.endpoint), self.region, rooms)

    def link(self, *parts: str) -> dg.MetadataValue[Any]:
        """The file of `parts` below the root: its URL at `files_url`, otherwise its path."""
        if self.files_url is None:
            return dg.MetadataValue.path(self.root.child(*parts).url)
        return dg.MetadataValue.url("/".join([self.files_url, *map(quote, parts)]))

    def place(self, *parts: str) -> Place:
        """The place of `parts` below the root."""
        return place_at(self.root, *parts, grace=timedelta(hours=self.keep_replaced_hours))


Provider = Literal["cdse", "earth_search", "earth_engine", "cdse_mosaic", "planetary_computer", "eopf"]

CDSE_ENDPOINT = "https://eodata.dataspace.copernicus.eu"

_CDSE: dict[str, Any] = {"endpoint": CDSE_ENDPOINT}
_OWN_S3 = MappingProxyType(
    {
        "cdse": _CDSE,
        "cdse_mosaic": _CDSE,
        "earth_search": {"anonymous": True, "region": "us-west-2"},
        "earth_search_jp2": {"region": "eu-central-1"},
    }
)
"""Provider -> options of its S3 service, unless the settings override the endpoint."""

_QUOTED = ("cdse", "cdse_mosaic")
"""Providers that limit connections per user: one connection per slot of the pool `cdse`."""

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE")


class SourceAccess(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Access to files and pixels of scenes; holds no secrets.

    Credentials come from the environment variables of AWS and Google.
    """

    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    profile: str | None = None
    connections: int | None = None
    token_service: str | None = None
    earth_engine_project: str | None = None
    earth_engine_url: str | None = None
    earth_engine_key_file: str | None = None

    @property
    def options(self) -> "S3Options":
        """Access to files without a provider, such as areas and items registered by URL."""
        from darts_assets.sources import S3Options

        options = S3Options(self.endpoint and revealed(self.endpoint), self.region, self.anonymous, self.profile)
        return replace(options, connections=self.connections) if self.connections else options

    def options_for(self, provider: str) -> "SourceOptions":
        """Access to the files and pixels of a provider's scenes (`Scene.source`)."""
        from darts_assets.sources import SourceOptions

        s3 = self.options
        if self.endpoint is None and provider in _OWN_S3:
            s3 = replace(s3, **_OWN_S3[provider])
        if provider == "planetary_computer":
            from darts_assets.remote.sas_tokens import PLANETARY_COMPUTER

            s3 = replace(s3, token_service=revealed(self.token_service or PLANETARY_COMPUTER))
        if self.connections is None and provider in _QUOTED:
            s3 = replace(s3, connections=1)
        return SourceOptions(s3=s3, earth_engine=self.earth_engine)

    @property
    def earth_engine(self) -> "EarthEngineOptions":
        """Options of the Earth Engine client; they must be equal for all users in a process."""
        from darts_assets.earth_engine import EarthEngineOptions

        options = EarthEngineOptions(project=self.earth_engine_project, key_file=self.earth_engine_key_file)
        return replace(options, url=revealed(self.earth_engine_url)) if self.earth_engine_url else options


class SceneCatalogs(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Catalogs of scenes, and the default one.

    Attributes:
        keys_are_of_store: whether AWS keys in the environment belong to the store and not to CDSE.
    """

    access: ResourceDependency[SourceAccess]
    cdse_url: str | None = None
    earth_search_url: str | None = None
    planetary_computer_url: str | None = None
    eopf_url: str | None = None
    pause: float | None = None
    keys_are_of_store: bool = False
    offline: bool = False

    def default(self) -> tuple[Provider, str]:
        """The default provider for tiles and areas, and the reason.

        CDSE requires keys for its files; without keys, its scenes can be found but not read.
        """
        access = self.access
        keys = next((name for name in _KEYS if os.environ.get(name)), None)
        if access.anonymous:
            return "earth_search", "DARTS_SOURCE_ANONYMOUS is set and CDSE requires keys"
        if access.profile:
            return "cdse", "DARTS_SOURCE_PROFILE is set"
        if keys and (access.endpoint or not self.keys_are_of_store):
            return "cdse", f"{keys} is set"
        if keys:
            return "earth_search", f"{keys} is used for the store; set DARTS_SOURCE_PROFILE to use CDSE"
        return "earth_search", f"it needs no account; for CDSE, set {' or '.join(_KEYS[:2])}"

    def open(self, provider: Provider, earth_engine_collection: str) -> "SceneCatalog":
        """The catalog of a provider.

        Raises:
            SettingsError: offline, or if the Earth Engine collection is not supported.
        """
        if self.offline:
            raise SettingsError(f"{provider} cannot be searched offline (DARTS_OFFLINE): select registered scenes")
        if provider == "earth_engine":
            from darts_assets.sources.earth_engine.catalog import EarthEngineCatalog

            return EarthEngineCatalog(self.access.earth_engine, earth_engine_collection)
        from darts_assets.sources.stac.search import StacCatalog
        from darts_assets.sources.stac.services import SERVICES

        urls = {
            "earth_search": self.earth_search_url,
            "planetary_computer": self.planetary_computer_url,
            "eopf": self.eopf_url,
        }
        url = urls.get(provider, self.cdse_url)
        return StacCatalog(SERVICES[provider], url=url and revealed(url), pause=self.pause)


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

    def check_suitable(self) -> None:
        """Check that the models are the user's, or the store is a demo's: the demo model suits no real scene.

        Raises:
            SettingsError: otherwise.
        """
        from darts_assets.demo import is_demo_store

        if not self.checkpoints and not is_demo_store(self.store.root):
            raise SettingsError(
                "DARTS_MODELS is not set: the included demo model segments only scenes in the store of a demo "
                "(darts-assets demo). Set DARTS_MODELS to the checkpoints of your models"
            )

    def _named(self) -> list[tuple[str | None, str]]:
        """Name (None for the file's stem) and location of each checkpoint."""
        from darts_assets.demo import DEMO_CHECKPOINT

        return [_split_name(revealed(text)) for text in self.checkpoints] or [("demo", str(DEMO_CHECKPOINT))]


def _split_name(text: str) -> tuple[str | None, str]:
    name, separator, checkpoint = text.partition("=")
    # A name has no slash: `s3://bucket/epoch=3.ckpt` is a checkpoint without a name.
    return (name, checkpoint) if separator and "/" not in name else (None, text)
