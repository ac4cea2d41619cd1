"""Settings from the environment (`DARTS_*`) and the settings file: locations, credentials and limits.

How scenes are processed is set in the Dagster config of the assets, whose defaults the settings file can change.
"""

import json
import os
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from darts_assets import redaction
from darts_assets.bands import AUXILIARY_LAYERS, AuxiliaryLayer
from darts_assets.errors import SettingsError
from darts_assets.settings_file import (
    COMMON_TABLES,
    NO_FILE,
    STEP_TABLES,
    VARIABLE,
    SettingsFile,
    read_settings_file,
    settings_path,
    unknown_names,
)
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.store_layout import MOVABLE_ROOMS
from darts_assets.stores.tile_retention import SYNTAX, parse_retention

_KUBERNETES = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$")


class Settings(BaseSettings):
    """Settings; the field `x` is read from the variable `DARTS_X`, else from `x` in the settings file."""

    model_config = SettingsConfigDict(env_prefix="DARTS_", frozen=True, extra="ignore")

    store: str = Field(default="darts-data", description="Root of all output: a path or s3://bucket/prefix.")
    store_endpoint: str | None = Field(
        default=None, description="URL of the store's S3-compatible service. Default: AWS."
    )
    store_region: str | None = Field(default=None, description="S3 region of the store.")
    aux_root: str | None = Field(
        default=None, description="Folder or s3://bucket/prefix of the auxiliary cubes. Default: aux/ of the store."
    )
    aux_root_endpoint: str | None = Field(default=None, description="As store_endpoint. Default: that of the store.")
    aux_root_region: str | None = Field(default=None, description="As store_region. Default: that of the store.")
    raw_root: str | None = Field(
        default=None, description="Folder or s3://bucket/prefix of the raw scenes. Default: raw/ of the store."
    )
    raw_root_endpoint: str | None = Field(default=None, description="As store_endpoint. Default: that of the store.")
    raw_root_region: str | None = Field(default=None, description="As store_region. Default: that of the store.")
    products_root: str | None = Field(
        default=None, description="Folder or s3://bucket/prefix of the products. Default: products/ of the store."
    )
    products_root_endpoint: str | None = Field(
        default=None, description="As store_endpoint. Default: that of the store."
    )
    products_root_region: str | None = Field(default=None, description="As store_region. Default: that of the store.")
    models_root: str | None = Field(
        default=None, description="Folder or s3://bucket/prefix of trained models. Default: models/ of the store."
    )
    models_root_endpoint: str | None = Field(default=None, description="As store_endpoint. Default: that of the store.")
    models_root_region: str | None = Field(default=None, description="As store_region. Default: that of the store.")
    keep_replaced_hours: float = Field(
        default=24,
        ge=0,
        description="Hours for which replaced versions of tiles and products are kept, for readers that use them.",
    )
    keep_tiles: str = Field(
        default="all", description=f"Tiles (raw scenes too) to keep, for the job `release_tiles`: {SYNTAX}."
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
    planetary_computer_url: str | None = Field(
        default=None, description="URL of the Planetary Computer's STAC API. Default: the public one."
    )
    eopf_url: str | None = Field(
        default=None, description="URL of the STAC API of the EOPF sample service. Default: the public one."
    )
    planetary_computer_tokens_url: str | None = Field(
        default=None, description="URL of the token service of the Planetary Computer. Default: the public one."
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
    ui_url: str | None = Field(
        default=None, description="URL of Dagster's UI, for links in notifications and in the map."
    )
    files_url: str | None = Field(
        default=None,
        description="URL at which a web server, such as `darts-assets map-server`, serves the folders of the store; "
        "Dagster's pages then show pictures at once and link to files.",
    )
    review_token: SecretStr | None = Field(
        default=None, description="Token of `darts-assets review`. Default: a new random one for each start."
    )
    offline: bool = Field(default=False, description="Fetch nothing; a scene with missing data fails.")
    executor: Literal["in_process", "multiprocess", "k8s", "k8s_per_run"] = Field(
        default="in_process", description="Executor of the steps of a run."
    )
    scenes_per_run: int = Field(default=8, ge=1, description="Scenes of a segmentation run of a backfill.")
    k8s_executor: Annotated[dict[str, Any], NoDecode] = Field(
        default_factory=dict, description="Default config of `k8s_job_executor`, as JSON."
    )
    k8s_steps: dict[str, Any] = Field(
        default_factory=dict,
        description="Config of dagster-k8s, as JSON, for the pods of all steps; X__Y__Z sets the value Z in Y.",
    )
    k8s_gpu_steps: dict[str, Any] = Field(
        default_factory=dict, description="As k8s_steps, for the steps that request a GPU; precedes it."
    )

    _file: SettingsFile = PrivateAttr(NO_FILE)

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        self._file = _current_file()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, which wins over the settings file."""
        return init_settings, _Environment(settings_cls), InitSettingsSource(settings_cls, _file_values())

    @property
    def file(self) -> SettingsFile:
        """The settings file; `model_construct` has none."""
        return self._file

    @field_validator("models", "planet", mode="before")
    @classmethod
    def _split_list(cls, value: object) -> object:
        return _split(value)

    @field_validator("keep_tiles")
    @classmethod
    def _check_retention(cls, value: str) -> str:
        parse_retention(value)
        return value

    @field_validator("arcticdem_resolution", mode="before")
    @classmethod
    def _read_number(cls, value: object) -> object:
        """The environment has strings, which are no values of a `Literal` of numbers."""
        return int(value) if isinstance(value, str) and value.strip().isdecimal() else value

    @field_validator("k8s_executor", mode="before")
    @classmethod
    def _read_json(cls, value: object) -> object:
        try:
            return json.loads(value) if isinstance(value, str) else value
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    @field_validator("k8s_steps", "k8s_gpu_steps", mode="before")
    @classmethod
    def _read_nested_json(cls, value: object) -> object:
        """JSON of nested keys, such as `DARTS_K8S_STEPS__JOB_METADATA`."""
        if not isinstance(value, dict):
            return value
        return {key: json.loads(part) if isinstance(part, str) else part for key, part in value.items()}

    @field_validator("auxiliary", mode="before")
    @classmethod
    def _split_auxiliary(cls, value: object) -> object:
        return () if value in ("none", "") else _split(value)

    @property
    def root(self) -> StoreLocation:
        """The store's root and its rooms elsewhere, with absolute paths, so that all workers use the same."""
        root = _located(self.store, self.store_endpoint, self.store_region)
        return replace(root, rooms=tuple((name, self._room(name)) for name in self.rooms))

    @property
    def rooms(self) -> list[str]:
        """Names of the folders of the store that lie elsewhere."""
        return [name for name in MOVABLE_ROOMS if getattr(self, f"{name}_root")]

    def _room(self, name: str) -> StoreLocation:
        url, endpoint, region = (getattr(self, f"{name}_root{part}") for part in ("", "_endpoint", "_region"))
        own = endpoint or region
        return _located(url, endpoint if own else self.store_endpoint, region if own else self.store_region)

    @property
    def watch_file(self) -> str | None:
        """`watch`, with an absolute path."""
        return self.watch and _absolute(self.watch)

    @property
    def planet_folders(self) -> list[str]:
        """`planet`, with absolute paths."""
        return [_absolute(folder) for folder in self.planet]


def _located(url: str, endpoint: str | None, region: str | None) -> StoreLocation:
    location = StoreLocation(url, endpoint, region)
    return replace(location, url=str(location.path)) if location.is_local else location


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).expanduser().resolve())


def _split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class _Environment(EnvSettingsSource):
    """Blanks and line ends around values, as in secrets of Kubernetes, do not count; empty values are not set."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls, env_nested_delimiter="__")

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """A value of JSON.

        Raises:
            SettingsError: if it is none.
        """
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            if field_name not in Settings.model_fields:  # a nested key, which may be text
                raise
            raise SettingsError(f"settings from the environment: DARTS_{field_name.upper()}: expected JSON") from None

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        tidy = {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
        return {name: value for name, value in tidy.items() if value != "" or name == "auxiliary"}


_PATHS = (
    "store", *(f"{room}_root" for room in MOVABLE_ROOMS), "models", "arcticdem", "tcvis", "earth_engine_key_file",
    "watch", "planet",
)  # fmt: skip
"""Settings that are paths or lists of paths; relative ones in the settings file are relative to its folder."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def _current_file() -> SettingsFile:
    path = settings_path()
    return read_settings_file(path) if path else NO_FILE


def _file_values() -> dict[str, Any]:
    """The settings in the settings file, with absolute paths.

    Raises:
        SettingsError: with each key that is not a setting, and each boolean that is not the value of a switch.
    """
    file = _current_file()
    if file.path is None:
        redaction.protect({})
        return {}
    values = {_PEER_SETTINGS.get(name, name): value for name, value in file.settings.items()}
    redaction.protect(
        {f"DARTS_{name.upper()}": value if isinstance(value, str) else str(value) for name, value in values.items()}
    )
    problems = [sentence for name in values for sentence in _unknown_key(name)]
    if isinstance(values.get("auxiliary"), dict):
        problems.append("[auxiliary] is not the table of a step: it shares the parameters of [preprocessed_tile]")
    problems += [
        f"{name} is {str(value).lower()}, expected no truth value"
        for name, value in values.items()
        if isinstance(value, bool) and name in Settings.model_fields
        and not isinstance(Settings.model_fields[name].default, bool)
    ]  # fmt: skip
    if problems:
        raise SettingsError(f"{file.path}: {'; '.join(problems)}")
    for name in _PATHS:
        if isinstance(value := values.get(name), str | list):
            parts = _split(value) if name in ("models", "planet") else value
            values[name] = _beside(file.path.parent, name, parts)
    return values


def _beside(folder: Path, setting: str, value: Any) -> Any:
    """A path, or each of several, relative to a folder; URLs and names of models in the store as they are."""
    if not isinstance(value, str):
        return tuple(_beside(folder, setting, part) for part in value) if isinstance(value, list | tuple) else value
    name, separator, location = value.rpartition("=") if setting == "models" else ("", "", value)
    is_model_name = setting == "models" and not {"/", "."} & set(location)
    if not location or _SCHEME.match(location) or is_model_name or "/" in name:
        return value
    return f"{name}{separator}{folder / Path(location).expanduser()}"


_PEER_SETTINGS = {"ee_project": "earth_engine_project", "model_files": "models"}
"""Options of darts-nextgen with the same meaning -> setting."""

_PEER_ADVICE = {
    "darts": "darts-nextgen's table: settings stand at the top level, parameters in a table for each step",
    "binarization_threshold": "write `threshold` in [polygons]",
    "export_bands": "write `products` in [products]",
    "output_data_dir": "write `products_root`, or `store` for everything",
    "arcticdem_dir": "write `aux_root`, a folder of cubes of this package",
    "tcvis_dir": "write `aux_root`, a folder of cubes of this package",
    "raw_data_store": "write `raw_root`, or `raw_store = false` to store no raw scenes",
    "raw_data_source": "write `source` in the config of the job discover_scenes",
    "no_raw_data_store": "write `raw_store = false`",
    "ee_use_highvolume": "the high-volume endpoint is the default of `earth_engine_url`",
    "orthotiles_dir": "write `planet`",
    "scenes_dir": "write `planet`",
    "overwrite": "materialize the scenes again",
    **dict.fromkeys(
        ("scene_ids", "scene_id_file", "tile_ids", "aoi_file", "start_date", "end_date", "months", "years",
         "max_cloud_cover", "max_snow_cover", "image_ids"),
        "scenes are selected in the config of the jobs discover_scenes and discover_planet_images",
    ),
}  # fmt: skip
"""Other options of darts-nextgen -> what to do."""


def _unknown_key(name: str) -> list[str]:
    """A sentence if a top-level key of the file is not a setting."""
    if name in Settings.model_fields:
        return []
    if advice := _PEER_ADVICE.get(name.replace("-", "_")):
        return [f"{name} is not a setting; {advice}"]
    if step := _step_of(name):
        return [f"{name} is a parameter of a step: write it in [{step}]"]
    return unknown_names([name], [*Settings.model_fields, *STEP_TABLES, *COMMON_TABLES], "{} is not a setting")


def _step_of(parameter: str) -> str | None:
    """The table of a parameter."""
    from darts_assets.detection import PostprocessParameters, ProductParameters
    from darts_assets.features import PreprocessParameters
    from darts_assets.model.segmentation_parameters import SegmentParameters

    tables: dict[str, type[BaseModel]] = {
        "preprocessed_tile": PreprocessParameters, "segmentation": SegmentParameters,
        "polygons": PostprocessParameters, "products": ProductParameters,
    }  # fmt: skip
    return next((table for table, model in tables.items() if parameter in model.model_fields), None)


def _is_known(name: str) -> bool:
    """Whether a variable is a setting, one of tests, or describes a service of Kubernetes called `darts-...`."""
    is_setting = name.removeprefix("DARTS_").lower().partition("__")[0] in Settings.model_fields or name == VARIABLE
    return is_setting or name.startswith("DARTS_ASSETS_") or bool(_KUBERNETES.search(name))


def source_of(name: str, current: Settings) -> str | None:
    """Where a setting comes from: its environment variable, else file and key; None for a default."""
    variable = f"DARTS_{name.upper()}"
    if name in _Environment(Settings)():
        return variable
    keys = {_PEER_SETTINGS.get(key, key): key for key in current.file.settings}
    return f"{current.file.path}: {keys[name]}" if name in keys else None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process.

    Raises:
        SettingsError: with each invalid environment variable, and each that starts with `DARTS_` and is not a setting;
            else with each invalid key of the settings file.
    """
    unknown = [name for name in os.environ if name.upper().startswith("DARTS_") and not _is_known(name.upper())]
    if unknown:
        known = (*Settings.model_fields, VARIABLE.removeprefix("DARTS_").lower())
        problems = unknown_names(unknown, known, "{} is not a setting", written=lambda name: f"DARTS_{name.upper()}")
        raise SettingsError(f"settings from the environment: {'; '.join(problems)}")
    try:
        return Settings()
    except ValidationError as error:
        given, path = _Environment(Settings)(), settings_path()
        problems, of_file = [], []
        for each in error.errors():
            name = str(each["loc"][0])
            if name in given:
                problems.append(f"DARTS_{name.upper()}: {each['msg']}")
            else:
                of_file.append(f"{name}: {each['msg']}")
        texts = [f"settings from the environment: {'; '.join(problems)}"] if problems else []
        texts += [f"{path}: {'; '.join(of_file)}"] if of_file else []
        raise SettingsError("; ".join(texts)) from None
