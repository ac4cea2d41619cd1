"""Tables of features as GeoParquet: several of one place are published in one step."""

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

import obstore

from darts_assets.errors import NotReadableError
from darts_assets.stores.publish import Manifest, Place

if TYPE_CHECKING:
    import geopandas as gpd


def write_vectors(place: Place, tables: "Mapping[str, gpd.GeoDataFrame]", metadata: Mapping[str, Any]) -> Manifest:
    """Write `tables` as `<name>.parquet` into a new version and publish it."""
    with place.new_version() as version:
        store = version.location.objects()
        for name, table in tables.items():
            buffer = BytesIO()
            table.to_parquet(buffer, index=False, write_covering_bbox=True, schema_version="1.1.0")
            obstore.put(store, f"{name}.parquet", buffer.getvalue())
        manifest = Manifest({f"{name}.parquet": version.id for name in tables}, dict(metadata))
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest


def read_vectors(place: Place) -> "dict[str, gpd.GeoDataFrame]":
    """The published tables by name.

    Raises:
        NotReadableError: if nothing has been published.
    """
    manifest = place.require()
    names = [file.removesuffix(".parquet") for file in manifest.contents]
    return {name: read_table(place, manifest, name) for name in names}


def read_table(place: Place, manifest: Manifest, name: str) -> "gpd.GeoDataFrame":
    """One of the tables that a manifest names.

    Raises:
        NotReadableError: if it names no such table, or another version has replaced it meanwhile.
    """
    import geopandas as gpd

    file = f"{name}.parquet"
    try:
        raw = obstore.get(place.location.child(manifest.contents[file]).objects(), file).bytes()
    except (KeyError, FileNotFoundError) as error:
        raise NotReadableError(f"{place.location}: {file} is not there, or was replaced while it was read") from error
    return gpd.read_parquet(BytesIO(bytes(raw)))
