"""IO managers: tiles as Zarr and tables as GeoParquet, published atomically, the same on a path and on S3."""

import json
import shutil
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import obstore
from dagster import ResourceDependency

from darts_assets.orchestration.metadata import domain_call
from darts_assets.orchestration.resources import Store
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import TileStream

if TYPE_CHECKING:
    import geopandas as gpd
    import xarray as xr


class _PlaceIOManager(dg.ConfigurableIOManager):
    """Each partition of an asset is a `Place` of the store."""

    store: ResourceDependency[Store]

    def load_input(self, context: dg.InputContext) -> Any:
        """The content of the partition that the downstream step needs."""
        with domain_call(context.log):
            return self.read(tuple(context.asset_key.path), context.asset_partition_key)

    def read(self, asset: tuple[str, ...], partition: str) -> Any:
        """The content of one partition."""
        raise TypeError(f"{type(self).__name__} cannot read")


def _manifest_facts(context: dg.OutputContext) -> dict[str, Any]:
    """What a step says of its output that readers of the store need too: `provenance` and, if given, `summary`."""
    said = context.output_metadata
    return {name: dict(said[name].value) for name in ("provenance", "summary") if name in said}


class TileIOManager(_PlaceIOManager):
    """`TileStream` in, window by window; lazy `xarray.Dataset` out. Under `tiles/<asset>/<partition>.zarr`."""

    def handle_output(self, context: dg.OutputContext, obj: TileStream) -> None:
        """Stream the tile into a new version and publish it; adds size, time and coverage to the metadata."""
        from darts_assets.stores.tiles import write_tile

        def log(done: int, total: int) -> None:
            context.log.info("%s: %d of %d rows written", context.asset_partition_key, done, total)

        place = self.store.place("tiles", *context.asset_key.path, f"{context.asset_partition_key}.zarr")
        started = time.perf_counter()
        with domain_call(context.log):
            written = write_tile(place, obj, metadata=_manifest_facts(context), progress=log)
        context.add_output_metadata(
            {
                "path": dg.MetadataValue.path(place.location.url),
                "bytes": written.size,
                "seconds": round(time.perf_counter() - started, 2),
                "coverage": dg.MetadataValue.json(written.coverage),
                "bands": ", ".join(obj.bands),
                "shape": str(tuple(obj.geobox.shape)),
            }
        )

    def read(self, asset: tuple[str, ...], partition: str) -> "xr.Dataset":
        """The tile, lazily, with `provenance` and `coverage` from its manifest as attributes."""
        from darts_assets.stores.tiles import read_tile

        place = self.store.place("tiles", *asset, f"{partition}.zarr")
        tile = read_tile(place)
        metadata = place.require().metadata
        return tile.assign_attrs(provenance=metadata["provenance"], coverage=metadata["coverage"])


class VectorIOManager(_PlaceIOManager):
    """A mapping of GeoDataFrames, one GeoParquet file each, published together. Under `vectors/<asset>/<partition>`."""

    def handle_output(self, context: dg.OutputContext, obj: "Mapping[str, gpd.GeoDataFrame]") -> None:
        """Write all tables into a new version and publish it."""
        from darts_assets.stores.vectors import write_vectors

        place = self.store.place("vectors", *context.asset_key.path, context.asset_partition_key)
        with domain_call(context.log):
            manifest = write_vectors(place, obj, _manifest_facts(context))
        context.add_output_metadata(
            {
                "path": dg.MetadataValue.path(place.location.url),
                "files": dg.MetadataValue.json([f"{version}/{name}" for name, version in manifest.contents.items()]),
            }
        )

    def read(self, asset: tuple[str, ...], partition: str) -> "dict[str, gpd.GeoDataFrame]":
        """The tables by name, each with `attrs["provenance"]` from the manifest."""
        from darts_assets.stores.vectors import read_vectors

        place = self.store.place("vectors", *asset, partition)
        tables = read_vectors(place)
        facts = place.require().metadata["provenance"]
        for table in tables.values():
            table.attrs["provenance"] = facts
        return tables


class StepValueIOManager(dg.ConfigurableIOManager):
    """Small JSON values that the steps of a job hand on, so that they may be in pods: `steps/<run>/...json`."""

    store: ResourceDependency[Store]

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Keep a value."""
        folder, name = _value_place(self.store, context)
        obstore.put(folder.objects(), name, json.dumps(obj).encode())

    def load_input(self, context: dg.InputContext) -> Any:
        """The value of an earlier step, also of the run that this one goes on with."""
        folder, name = _value_place(self.store, context)
        return json.loads(bytes(obstore.get(folder.objects(), name).bytes()))


def forget_values(store: Store, run_id: str) -> None:
    """Remove what the steps of a run have handed on."""
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
