"""Tables of features as GeoParquet; the tables of a place are published in one step."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from darts_assets.errors import NotReadableError
from darts_assets.stores.publish import Manifest, Place, Version

if TYPE_CHECKING:
    import geopandas as gpd
    import pandas as pd


def write_vectors(place: Place, tables: "Mapping[str, gpd.GeoDataFrame]", metadata: Mapping[str, Any]) -> Manifest:
    """Write `tables` as `<name>.parquet` into a new version and publish it."""
    with place.new_version() as version:
        files = [write_table(version, name, table) for name, table in tables.items()]
        manifest = Manifest(dict.fromkeys(files, version.id), dict(metadata))
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest


def write_table(version: Version, name: str, table: "gpd.GeoDataFrame") -> str:
    """Write a table as GeoParquet 1.1 into a version; returns the file name, `<name>.parquet`."""
    file, location = f"{name}.parquet", version.location
    options = {"index": False, "write_covering_bbox": True, "schema_version": "1.1.0"}
    table.to_parquet(location.file(file), filesystem=location.filesystem(), **options)
    return file


def write_plain_table(version: Version, name: str, table: "pd.DataFrame") -> str:
    """Write a table without geometry as Parquet into a version; returns the file name, `<name>.parquet`."""
    file, location = f"{name}.parquet", version.location
    table.to_parquet(location.file(file), filesystem=location.filesystem(), index=False)
    return file


def read_vectors(place: Place, manifest: Manifest | None = None) -> "dict[str, gpd.GeoDataFrame]":
    """The tables of a manifest, by default of the current one, by name.

    Raises:
        NotReadableError: if nothing has been published.
    """
    manifest = manifest or place.require()
    names = [file.removesuffix(".parquet") for file in manifest.contents]
    return {name: read_table(place, manifest, name) for name in names}


def read_plain_table(
    place: Place, manifest: Manifest, name: str, columns: Sequence[str] | None = None
) -> "pd.DataFrame":
    """A table of a manifest without its geometry.

    Args:
        place: where the manifest was read.
        manifest: lists the table.
        name: of the table.
        columns: to read, by default all.

    Raises:
        NotReadableError: if the manifest does not list it, or another run has replaced it since.
    """
    import pandas as pd

    file = f"{name}.parquet"
    try:
        location = place.location.child(manifest.contents[file])
        chosen = None if columns is None else list(columns)
        return pd.read_parquet(location.file(file), filesystem=location.filesystem(), columns=chosen)
    except (KeyError, FileNotFoundError) as error:
        raise NotReadableError(f"{place.location}: {file} does not exist or was replaced during reading") from error


def read_table(place: Place, manifest: Manifest, name: str) -> "gpd.GeoDataFrame":
    """A table of a manifest.

    Raises:
        NotReadableError: if the manifest does not list it, or another run has replaced it since.
    """
    import geopandas as gpd

    file = f"{name}.parquet"
    try:
        location = place.location.child(manifest.contents[file])
        return gpd.read_parquet(location.file(file), filesystem=location.filesystem())
    except (KeyError, FileNotFoundError) as error:
        raise NotReadableError(f"{place.location}: {file} does not exist or was replaced during reading") from error
