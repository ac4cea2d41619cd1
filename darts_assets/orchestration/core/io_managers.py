"""IO managers: tiles as Zarr and tables as GeoParquet, published atomically, on a path or on S3."""

import json
import logging
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import obstore
from dagster import ResourceDependency

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, in_units, tile_previews, without_pictures
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import costs_of
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import TileStream

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr


class _PlaceIOManager(dg.ConfigurableIOManager):
    """Base: each partition of an asset is a `Place` in the store."""

    store: ResourceDependency[Store]

    def load_input(self, context: dg.InputContext) -> Any:
        """The content of the partition that the downstream step reads."""
        with domain_call(context.log):
            return self.read(tuple(context.asset_key.path), context.asset_partition_key)

    def read(self, asset: tuple[str, ...], partition: str) -> Any:
        """The content of one partition."""
        raise TypeError(f"{type(self).__name__} cannot read")


def _manifest_facts(context: dg.OutputContext) -> dict[str, Any]:
    """The metadata that readers of the store need too: `provenance` and, if present, `summary`."""
    metadata = context.output_metadata
    return {name: dict(metadata[name].value) for name in ("provenance", "summary") if name in metadata}


def publish_tile(
    store: Store, asset: dg.AssetKey, partition: str, stream: TileStream, facts: Mapping[str, Any], log: logging.Logger
) -> dict[str, dg.MetadataValue[Any]]:
    """Stream a tile into a new version and publish it.

    Args:
        store: the store.
        asset: the tile's asset.
        partition: the tile's partition.
        stream: the tile.
        facts: JSON for the manifest.
        log: logger for progress.

    Returns:
        Metadata of the materialization: path, size, coverage, bands and previews.
    """
    from darts_assets.stores.tiles import write_tile

    def progress(done: int, total: int) -> None:
        log.info("%s: %d of %d rows written", partition, done, total)

    place = store.place("tiles", *asset.path, partition)
    written = write_tile(place, stream, metadata=facts, progress=progress)
    return as_metadata(
        {
            "path": dg.MetadataValue.path(written.url),
            "bytes": written.size,
            "coverage": written.coverage,
            "bands": ", ".join(stream.bands),
            "shape": str(tuple(stream.geobox.shape)),
            **tile_previews(written),
        }
    )


class TileIOManager(_PlaceIOManager):
    """`TileStream` in, window by window; lazy `xarray.Dataset` out. Under `tiles/<asset>/<partition>`."""

    def handle_output(self, context: dg.OutputContext, obj: TileStream) -> None:
        """Stream the tile into a new version and publish it; adds size, coverage and costs to the metadata."""
        with domain_call(context.log):
            published = publish_tile(
                self.store, context.asset_key, context.asset_partition_key, obj, _manifest_facts(context), context.log
            )
        facts = without_pictures(context, published)
        context.add_output_metadata({**in_units(facts), **facts, **costs_of(context)})

    def read(self, asset: tuple[str, ...], partition: str) -> "xr.Dataset":
        """The tile, lazily, with `provenance` and `coverage` from its manifest as attributes."""
        from darts_assets.stores.tile_retention import require_tile
        from darts_assets.stores.tiles import read_tile

        family, step = asset
        place = self.store.place("tiles", *asset, partition)
        manifest = require_tile(self.store.root, place, family, step, partition)
        tile = read_tile(place, manifest=manifest)
        return tile.assign_attrs({name: manifest.metadata[name] for name in ("provenance", "coverage")})


def publish_vectors(
    store: Store, asset: dg.AssetKey, partition: str, tables: "Mapping[str, gpd.GeoDataFrame]", facts: Mapping[str, Any]
) -> dict[str, dg.MetadataValue[Any]]:
    """Write tables into a new version and publish it.

    Args:
        store: the store.
        asset: the tables' asset.
        partition: the tables' partition.
        tables: by name.
        facts: JSON for the manifest.

    Returns:
        Metadata of the materialization: path and files.
    """
    from darts_assets.stores.vectors import write_vectors

    place = store.place("vectors", *asset.path, partition)
    manifest = write_vectors(place, tables, facts)
    return {
        "path": dg.MetadataValue.path(place.location.url),
        "files": dg.MetadataValue.json([f"{version}/{name}" for name, version in manifest.contents.items()]),
    }


class VectorIOManager(_PlaceIOManager):
    """A mapping of GeoDataFrames, one GeoParquet file each, published together. Under `vectors/<asset>/<partition>`."""

    def handle_output(self, context: dg.OutputContext, obj: "Mapping[str, gpd.GeoDataFrame]") -> None:
        """Write all tables into a new version and publish it."""
        with domain_call(context.log):
            published = publish_vectors(
                self.store, context.asset_key, context.asset_partition_key, obj, _manifest_facts(context)
            )
        context.add_output_metadata({**published, **costs_of(context)})

    def read(self, asset: tuple[str, ...], partition: str) -> "dict[str, gpd.GeoDataFrame]":
        """The tables by name, each with `attrs["provenance"]` from the manifest."""
        from darts_assets.stores.vectors import read_vectors

        place = self.store.place("vectors", *asset, partition)
        manifest = place.require()
        tables = read_vectors(place, manifest)
        for table in tables.values():
            table.attrs["provenance"] = manifest.metadata["provenance"]
        return tables


class StepValueIOManager(dg.ConfigurableIOManager):
    """JSON values passed between the steps of a job, which may run in pods: `steps/<run>/...json`."""

    store: ResourceDependency[Store]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store a value."""
        folder, name = _value_place(self.store, context)
        obstore.put(folder.objects(), name, json.dumps(obj).encode())

    def load_input(self, context: dg.InputContext) -> Any:
        """The value of an earlier step, also of the run that this run resumes."""
        folder, name = _value_place(self.store, context)
        return json.loads(bytes(obstore.get(folder.objects(), name).bytes()))


def forget_values(store: Store, run_id: str) -> None:
    """Delete the values of a run."""
    folder = store.root.child("steps", run_id)
    keys = list(folder.keys())
    if keys:
        obstore.delete(folder.objects(), keys)
    if folder.is_local:
        shutil.rmtree(folder.path, ignore_errors=True)


def _value_place(store: Store, context: dg.OutputContext | dg.InputContext) -> tuple[StoreLocation, str]:
    run_id, *parts = context.get_identifier()
    name = ".".join(parts).translate(str.maketrans("[]", "()"))
    return store.root.child("steps", run_id), f"{name}.json"
