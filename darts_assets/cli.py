"""The command `darts-assets`: run a demo, register scenes, check a setup."""

import os
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from darts_assets.errors import DartsError

if TYPE_CHECKING:
    from shapely import MultiPolygon

    from darts_assets.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="darts_assets")
def cli() -> None:
    """Map retrogressive thaw slumps from satellite scenes.

    To process scenes, use Dagster: `dagster asset materialize`, `dagster dev`.
    """


@cli.command()
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("darts-demo"), show_default=True,
    help="Folder of the demo: synthetic data, store and Dagster instance.",
)  # fmt: skip
@click.option("--scenes", type=click.IntRange(1, 3), default=3, show_default=True, help="Number of scenes.")
@click.option(
    "--size",
    type=click.IntRange(200, 3000),
    default=1500,
    show_default=True,
    help="Width and height of a scene, in pixels.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Random seed of the synthetic data.")
def demo(folder: Path, scenes: int, size: int, seed: int) -> None:
    """Generate synthetic scenes and terrain, map thaw slumps with Dagster, and compare them with the truth."""
    from darts_assets.definitions import build_defs
    from darts_assets.demo_runner import run_demo

    try:
        sys.exit(run_demo(folder, build_defs, scenes=scenes, size=size, seed=seed))
    except DartsError as error:
        raise click.ClickException(str(error)) from error


@cli.command()
@click.argument("items", nargs=-1, required=True)
def register(items: tuple[str, ...]) -> None:
    """Register scenes by STAC ITEMS (paths, https:// or s3:// URLs), and Planet images by their folders.

    The items are stored, and each scene becomes a partition in the Dagster instance of DAGSTER_HOME.
    """
    import dagster as dg

    from darts_assets.definitions import build_defs
    from darts_assets.orchestration.scene_discovery.registration import register_any

    if not os.environ.get("DAGSTER_HOME"):
        raise click.ClickException(
            "DAGSTER_HOME is not set: without it, registered scenes are lost when this command ends. "
            "Set it to a folder, for example: export DAGSTER_HOME=$PWD/dagster-home"
        )
    try:
        scenes = build_defs().resources["scenes"]  # type: ignore[index]
        with dg.DagsterInstance.get() as instance:
            ids = register_any(instance, scenes, list(items))
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    for scene_id in ids:
        click.echo(scene_id)


@cli.command()
@click.option("--offline", is_flag=True, help="Connect to no service except the store (as with DARTS_OFFLINE).")
@click.option(
    "--device", default="auto", show_default=True,
    help="Device for the models: auto, cpu, cuda, or an index, as in the config of segmentation.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of a table.")
def doctor(offline: bool, device: str, as_json: bool) -> None:
    """Check whether this setup can map scenes, and show how to fix problems.

    Checks versions, memory, GPU, Dagster instance, store, models, credentials and services, with the settings from the
    environment. The exit code is 1 if a check fails; warnings do not count. Secrets are not shown.
    """
    from darts_assets.definitions import build_defs
    from darts_assets.doctor import Finding, Report, examine
    from darts_assets.settings import settings

    try:
        current = settings()
        current = current.model_copy(update={"offline": current.offline or offline})
        report = examine(current, build_defs(current).resources or {}, device=device, offline=current.offline)
    except DartsError as error:  # invalid settings: nothing else can be checked
        report = Report((Finding("settings", "fail", str(error), "See the settings in darts_assets/README.md."),))
    if as_json:
        click.echo(report.as_json())
    else:
        report.show()
    sys.exit(report.failed)


@cli.command()
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


@cli.command()
def migrate() -> None:
    """Convert the store of DARTS_STORE, written by a former release, without fetching or computing again.

    No run may be active. The command can be repeated after an interruption.
    """
    from darts_assets.settings import settings
    from darts_assets.store_migration import migrate_store

    try:
        done = migrate_store(settings().root, click.echo)
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{done.tiles} tiles and {done.cubes} cubes converted")
    if done.problems:
        raise click.ClickException("; ".join(f"{part}: {reason}" for part, reason in done.problems.items()))


@cli.command()
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


def main() -> None:
    """Entry point of the command."""
    # Background jobs of scripts start with SIGINT ignored. Dagster then ignores SIGTERM as well, and so do the
    # processes that mirror its logs, which Dagster could not terminate.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    cli()
