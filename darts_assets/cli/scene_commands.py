"""Commands for scenes and their results: `register`, `sync`, `path`, `export`."""

import sys
from typing import IO, TYPE_CHECKING

import click

from darts_assets.errors import DartsError

if TYPE_CHECKING:
    from shapely import MultiPolygon

    from darts_assets.settings import Settings


@click.command()
@click.argument("items", nargs=-1, required=True)
@click.option("--repeat-acquisitions", is_flag=True, help="Register acquisitions of other sources, too.")
def register(items: tuple[str, ...], repeat_acquisitions: bool) -> None:
    """Register scenes by STAC ITEMS (paths or URLs), SAFE and Zarr products, and Planet images by their folders.

    SAFE products may be folders, zip archives, or folders of both; on S3, folders of products end with a slash.

    The items are stored, and each scene becomes a partition in the Dagster instance of DAGSTER_HOME. Ids are printed to
    the standard output; date, tile and satellite of each, to the standard error. A scene whose acquisition is
    registered from another source is not registered; the id of the registered scene is printed.
    """
    import dagster as dg

    from darts_assets.definitions import build_defs
    from darts_assets.orchestration.core.local_instance import own_home
    from darts_assets.orchestration.scene_discovery.registration import register_any, twin_note

    if own_home() is None:
        raise click.ClickException(
            "DAGSTER_HOME is not set: without it, registered scenes are lost when this command ends. "
            "Set it to a folder, for example: export DAGSTER_HOME=$PWD/dagster-home"
        )
    try:
        scenes = build_defs().resources["scenes"]  # type: ignore[index]
        with dg.DagsterInstance.get() as instance:
            ids = register_any(
                instance,
                scenes,
                list(items),
                repeat_acquisitions=repeat_acquisitions,
                on_twin=lambda scene, twin: click.echo(twin_note(scene, twin), err=True),
            )
        labels = {scene_id: scenes.scene(scenes.family_of(scene_id), scene_id).label for scene_id in ids}
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    for scene_id, label in labels.items():
        click.echo(scene_id)
        click.echo(f"  {label}", err=True)  # scripts read the ids


@click.command()
def sync() -> None:
    """Register and record in Dagster what the store of DARTS_STORE has.

    For a store that was made elsewhere or by jobs with Dagster instances of their own, or whose Dagster database was
    lost. Items and pointers are read, no data; nothing is computed. What the instance of DAGSTER_HOME has already is
    left as it is; an empty folder becomes an instance. The exit code is 1 if something had to be left out.
    """
    import dagster as dg

    from darts_assets.definitions import build_defs
    from darts_assets.orchestration.core.local_instance import own_home
    from darts_assets.orchestration.scene_discovery.store_sync import sync_store

    if own_home() is None:
        raise click.ClickException("DAGSTER_HOME is not set: set it to the folder of the Dagster instance")
    try:
        with dg.DagsterInstance.get() as instance:
            done = sync_store(instance, build_defs())
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    for name, count in done.registered.items():
        click.echo(f"{count} new partitions of {name}")
    for asset, count in done.recorded.items():
        click.echo(f"{count} materializations of {asset}")
    if not (done.registered or done.recorded):
        click.echo("nothing new in the store")
    for name, reason in done.problems.items():
        click.echo(f"{name}: {reason}", err=True)
    sys.exit(bool(done.problems))


@click.command()
@click.argument("scene")
@click.argument("step", required=False)
def path(scene: str, step: str | None) -> None:
    """Print where the store of DARTS_STORE has the results of a SCENE.

    `xarray.open_zarr` opens the paths of raw_scene, preprocessed_tile and segmentation. With a STEP, only its path is
    printed, for use in scripts.
    """
    from darts_assets.settings import settings
    from darts_assets.stores.scene_paths import scene_paths

    try:
        paths = scene_paths(settings().root, scene)
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    if step and step not in paths:
        raise click.ClickException(f"scene {scene} has no {step}; it has {', '.join(paths)}")
    for name, url in paths.items():
        if step in (None, name):
            click.echo(url if step else f"{name:<18} {url}")


@click.command()
@click.argument("target")
@click.argument("scenes", nargs=-1)
@click.option("--ids-file", type=click.File(), help="File with a scene id per line; `#` starts a comment.")
@click.option("--family", help="Only scenes of this family: sentinel2 or planet.")
@click.option("--aoi", help="Only scenes that intersect the features of a vector file: a path, https:// or s3:// URL.")
@click.option("--start", help="Only scenes sensed in or after this year, or on or after this date (2023-07-15).")
@click.option("--end", help="Only scenes sensed until the end of this year or date.")
@click.option("--products", help="Comma-separated, such as polygonized,extent,probabilities. Default: all that exist.")
@click.option("--crs", default="EPSG:4326", show_default=True, help="CRS of the merged GeoPackage.")
@click.option("--endpoint", help="S3 service of TARGET. Default: that of the store.")
def export(
    target: str,
    scenes: tuple[str, ...],
    ids_file: IO[str] | None,
    family: str | None,
    aoi: str | None,
    start: str | None,
    end: str | None,
    products: str | None,
    crs: str,
    endpoint: str | None,
) -> None:
    """Copy the products of SCENES (default: all) to TARGET, a folder or s3://bucket/prefix.

    TARGET also receives slumps.gpkg, with the polygons of the selected scenes, and the QGIS project slumps.qgs. Files
    that were exported before and have not changed are skipped. The exit code is 1 if a scene could not be exported.
    """
    from darts_assets.catalog.scene_export import SceneSelection, export_scenes
    from darts_assets.settings import settings
    from darts_assets.stores.location import StoreLocation

    lines = ids_file.read().splitlines() if ids_file else []
    listed = [scene for line in lines if (scene := line.partition("#")[0].strip())]
    if ids_file and not listed:
        raise click.ClickException(f"{ids_file.name} has no scene ids; expected one per line")
    names = [name.strip() for name in products.split(",")] if products else []
    try:
        current = settings()
        area = _lonlat(aoi, current) if aoi else None
        selection = SceneSelection([*scenes, *listed], family, area, start, end)
        location = StoreLocation(target, endpoint or current.store_endpoint, current.store_region)
        done = export_scenes(current.root, location, selection, products=names, crs=crs, progress=click.echo)
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    rows = ", ".join(f"{count} rows of {table}" for table, count in done.rows.items())
    click.echo(f"{done.scenes} scenes in {location}: {done.copied} files copied, {done.unchanged} unchanged; {rows}")
    for scene, reason in done.failed.items():
        click.echo(f"{scene}: {reason}", err=True)
    sys.exit(bool(done.failed))


def _lonlat(aoi: str, current: "Settings") -> "MultiPolygon":
    """The features of a vector file as one area in EPSG:4326."""
    from darts_assets.geo.antimeridian import lonlat_area
    from darts_assets.geo.aoi import read_aoi
    from darts_assets.remote.s3_auth import S3Options

    s3 = S3Options(current.source_endpoint, current.source_region, current.source_anonymous, current.source_profile)
    area = read_aoi(aoi, s3)
    return lonlat_area(area.geometry, area.crs)
