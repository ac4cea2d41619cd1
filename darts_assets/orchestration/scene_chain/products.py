"""`products`: the exported files of a scene."""

import datetime as dt
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg

from darts_assets.detection import ProductParameters
from darts_assets.orchestration.core.error_handling import StepConfig
from darts_assets.orchestration.core.io_managers import TileIOManager, VectorIOManager
from darts_assets.orchestration.core.metadata import (
    Pictures,
    data_version,
    detection_preview,
    materialize_result,
    provenance,
)
from darts_assets.orchestration.core.multi_partition import beta_policies, materialize_each, partitions_per_run
from darts_assets.orchestration.core.partitions import SceneFamily
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.scene_store import RawScenes, SceneRegistry
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.scene_chain.polygons import EXTENT, SEGMENTS, column_metadata
from darts_assets.scene import Scene
from darts_assets.settings_file import NO_FILE, SettingsFile
from darts_assets.stores.latest import LATEST
from darts_assets.stores.publish import Version

if TYPE_CHECKING:
    import xarray as xr
    from PIL import Image

CODE_VERSION = "5"

_ORIGIN = (
    ("area_m2", "float64", "Geodesic area on the WGS 84 ellipsoid, square metres."),
    ("scene_id", "str", "Id of the scene."),
    ("datetime", "datetime64[ms, UTC]", "Sensing time of the scene, UTC."),
    ("model", "str", "Names of the models, separated by commas."),
    ("code_version", "str", "Version of the code that made the polygons."),
)


def _with_origin(schema: dg.TableSchema) -> dg.TableSchema:
    """The columns of a product, from those of its polygons."""
    added = [dg.TableColumn(*column) for column in _ORIGIN]
    columns = {column.name: column for column in (*schema.columns[:-1], *added, schema.columns[-1])}
    return dg.TableSchema(list(columns.values()))


PREDICTION_SEGMENTS, PREDICTION_EXTENT = _with_origin(SEGMENTS), _with_origin(EXTENT)
"""Columns of the exported tables."""

THUMBNAIL = "thumbnail.jpg"
LINKED = ("prediction_segments.gpkg", "prediction_segments.parquet", "probabilities.tif", THUMBNAIL)
"""Files with a path of their own in the metadata."""


class ProductsConfig(StepConfig, ProductParameters):
    """The exported products."""


@beta_policies()
def build_products(family: SceneFamily, scenes_per_run: int = 1, file: SettingsFile = NO_FILE) -> dg.AssetsDefinition:
    """The asset `products` of a family; a run of a backfill takes up to `scenes_per_run`."""

    @dg.asset(
        **family.asset("products"),
        kinds={"cog", "geopackage"},
        code_version=CODE_VERSION,
        metadata=column_metadata(PREDICTION_SEGMENTS, PREDICTION_EXTENT),
        backfill_policy=partitions_per_run(scenes_per_run),
        output_required=False,
        deps=[family.key(step) for step in ("polygons", "segmentation", "preprocessed_tile")],
        description="Rasters (COG), vectors (GeoPackage and GeoParquet), thumbnail, chips and metadata of the scene.",
    )
    @StepDefaults(family.name, file).configure("products")
    def products(
        context: dg.AssetExecutionContext, config: ProductsConfig, scenes: SceneRegistry, store: Store, raw: RawScenes
    ) -> Iterator[Any]:
        tiles, tables_of = TileIOManager(store=store), VectorIOManager(store=store)

        def export_scene(key: str) -> dg.MaterializeResult[None]:
            from darts_assets.detection.export import check_products, describe, export
            from darts_assets.geo.product_tables import Origin, product_tables
            from darts_assets.tiles import geobox_of

            check_products(config.products)
            scene = scenes.scene(family, key)
            vectors = tables_of.read(tuple(family.key("polygons").path), key)
            probabilities, tile = (
                tiles.read(tuple(family.key(step).path), key) for step in ("segmentation", "preprocessed_tile")
            )
            upstream = {
                "preprocessed_tile": tile.attrs["provenance"],
                "segmentation": probabilities.attrs["provenance"],
                "polygons": vectors["segments"].attrs["provenance"],
            }
            facts = provenance(CODE_VERSION, config.model_dump(), polygons=upstream["polygons"]["data_version"])
            export_metadata = _export_metadata(scene, facts, upstream)
            code_version = upstream["polygons"]["code_version"]
            origin = Origin(scene.id, scene.datetime, list(export_metadata["models"]), code_version)
            tables = product_tables(vectors, origin)
            place = store.place("products", family.name, scene.id)
            with place.new_version() as version, _local_folder(version) as folder:
                written = export(
                    folder,
                    config.products,
                    probabilities=probabilities,
                    features=tile,
                    vectors=tables,
                    metadata=export_metadata,
                    write_model_outputs=config.write_model_outputs,
                )
                preview = _preview(written, tile, vectors)
                _upload(version, folder)
                names = sorted(path.name for paths in written.values() for path in paths)
                # The catalog is built from this manifest, without opening the files.
                manifest = {
                    "provenance": facts,
                    "metadata": export_metadata,
                    "item": _item_url(scene),
                    "tiles": _tiles(store, family, scene, raw, upstream),
                    **describe(folder, geobox_of(tile), tables),
                }
                place.publish(version, dict.fromkeys(names, version.id), manifest)
            context.log.info(f"{scene.id}: {len(names)} files in {version.location}")
            location = ("products", family.name, scene.id, LATEST)
            latest = place.location.child(LATEST).url
            metadata = {
                **_picture(store, location, names, preview),
                "Scene": scene.label,
                "path": dg.MetadataValue.path(latest),
                "files": names,
                "objects": len(vectors["segments"]),
                "config": config.model_dump(),
                **{name: store.link(*location, name) for name in LINKED if name in names},
            }
            return materialize_result(metadata, facts)

        yield from materialize_each(context, export_scene)

    return products


def _picture(store: Store, location: Sequence[str], files: Sequence[str], preview: "Image.Image") -> Pictures:
    """The thumbnail: where files are served, as a link, which Dagster shows at once; otherwise embedded."""
    if store.files_url is None or THUMBNAIL not in files:
        return detection_preview(preview)
    return {"Picture": dg.MetadataValue.md(f"![]({store.link(*location, THUMBNAIL).value})")}


def _export_metadata(scene: Scene, facts: dict[str, Any], upstream: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Content of the product `metadata`: the scene, all parameters of its chain, versions and inputs."""
    parameters = {name: value for step in upstream.values() for name, value in step["parameters"].items()}
    return {
        "tile_id": scene.id,
        **scene.summary(),
        **parameters,
        "export_date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "code_version": facts["code_version"],
        "data_version": facts["data_version"],
        # Flat, because they are also tags of the rasters and vectors.
        "model_hash": ",".join(f"{name}={digest[:16]}" for name, digest in parameters["models"].items()),
        "config_hash": data_version("", parameters),
        "item_hash": scene.fingerprint,
        "steps": upstream,
    }


def _tiles(
    store: Store, family: SceneFamily, scene: Scene, raw: RawScenes, upstream: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Key in the store and bands of the Zarr stores that the products were made from, by step."""
    manifests = {"raw_scene": (raw.place(scene), raw.published(scene) if raw.enabled else None)}
    for step in ("preprocessed_tile", "segmentation"):
        place = store.place("tiles", *family.key(step).path, scene.id)
        manifest = place.manifest()
        # A run that has replaced the tile meanwhile makes products of its own.
        is_input = manifest is not None and manifest.metadata["provenance"] == upstream[step]
        manifests[step] = (place, manifest if is_input else None)
    return {
        step: {"key": store.root.key_of(place.current_url(manifest)), "bands": list(manifest.contents)}
        for step, (place, manifest) in manifests.items()
        if manifest is not None and not manifest.released
    }


def _item_url(scene: Scene) -> str | None:
    """URL of the scene's item at its provider, without a signature."""
    hrefs = (link.get("href", "") for link in scene.item.get("links", []) if link.get("rel") == "self")
    return next((href.partition("?")[0] for href in hrefs if urlsplit(href).scheme in ("http", "https")), None)


def _preview(written: dict[str, list[Path]], tile: "xr.Dataset", vectors: dict[str, Any]) -> "Image.Image":
    """The thumbnail: the exported one if selected, so that pixels are read once."""
    from PIL import Image

    from darts_assets.plots import scene_picture

    if "thumbnail" not in written:
        return scene_picture(tile, vectors)
    with Image.open(written["thumbnail"][0]) as saved:
        return saved.copy()


@contextmanager
def _local_folder(version: Version) -> Iterator[Path]:
    """The version's own folder on a path; a temporary folder for an object store, because GDAL writes files."""
    if version.location.is_local:
        version.location.path.mkdir(parents=True, exist_ok=True)
        yield version.location.path
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _upload(version: Version, folder: Path) -> None:
    if version.location.is_local:
        return
    import obstore

    store = version.location.objects()
    for path in sorted(folder.iterdir()):
        obstore.put(store, path.name, path)
