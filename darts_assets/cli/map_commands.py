"""Commands that process scenes: `map`, `demo`."""

import json
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from darts_assets.errors import DartsError

if TYPE_CHECKING:
    from darts_assets.orchestration.scene_discovery.planet_selection import PlanetChoice
    from darts_assets.orchestration.scene_discovery.selection import SceneChoice
    from darts_assets.sources import S3Options


class _Numbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers and ranges: `7,8` or `2019-2023`."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        numbers: list[int] = []
        for part in value.split(","):
            first, dash, last = part.strip().partition("-")
            if not (first.isdecimal() and (not dash or last.isdecimal()) and int(last or first) - int(first) < 1000):
                self.fail(f"{part.strip()!r}: expected numbers or a range, such as 7,8 or 2019-2023", param, ctx)
            numbers += range(int(first), int(last or first) + 1)
        return numbers


@click.command(name="map")
@click.option("--aoi", help="Area: a vector file (path, https:// or s3:// URL) in any CRS.")
@click.option("--aoi-layer", help="Layer of the area's file. Default: all layers.")
@click.option("--tiles", help="Comma-separated MGRS tiles, such as 08WNB,08WMB.")
@click.option(
    "--scene", "scenes", multiple=True,
    help="Scene id, STAC item (path or URL), SAFE product or folder of a Planet image. Can be repeated.",
)  # fmt: skip
@click.option("--ids-file", help="File of scene ids: a JSON list, or one per line.")
@click.option(
    "--family", type=click.Choice(["sentinel2", "planet"]),
    help="Default: planet for folders of Planet images, else sentinel2.",
)  # fmt: skip
@click.option("--folders", help="Comma-separated folders of Planet images. Default: DARTS_PLANET.")
@click.option("--start", help="First day, such as 2023-07-01.")
@click.option("--end", help="Last day (inclusive).")
@click.option("--years", type=_Numbers(), help="Years, such as 2021-2023.")
@click.option("--months", type=_Numbers(), help="Months, such as 7,8.")
@click.option("--quarters", type=_Numbers(), help="Quarters, 1 to 4: CDSE's mosaics instead of scenes.")
@click.option("--max-cloud-cover", type=float, help="Percent; 100 disables the filter.  [default: 10]")
@click.option("--max-snow-cover", type=float, help="Percent; 100 disables the filter.  [default: 10]")
@click.option("--baseline", help="Only this processing baseline, such as 05.10. Default: the newest.")
@click.option(
    "--source",
    help="Catalog: auto, cdse, earth_search, earth_engine, cdse_mosaic, planetary_computer or eopf.  [default: auto]",
)
@click.option("--further-sources", help="Comma-separated catalogs to search after --source, for tiles and areas.")
@click.option(
    "--repeat-acquisitions", is_flag=True, default=None,
    help="Map acquisitions that are registered from another source, too.",
)  # fmt: skip
@click.option("--earth-engine-collection", help="Or COPERNICUS/S2_SR.  [default: COPERNICUS/S2_SR_HARMONIZED]")
@click.option("--models", help="Model checkpoints, as DARTS_MODELS.")
@click.option("--through", default="products", show_default=True, help="Last step: raw_scene, ..., products.")
@click.option("--only-missing/--all", default=True, help="Skip finished steps (default), or run all again.")
@click.option("--dry-run", is_flag=True, help="Only report what matches and is missing.")
@click.option("--workers", type=click.IntRange(1), help="Scenes at a time. Default: what memory and processors allow.")
@click.option("--shard", help="Only a part of the scenes, such as 3/16, or `array` in a job array.")
@click.option("--offline", is_flag=True, help="Fetch nothing; search registered scenes only (as with DARTS_OFFLINE).")
@click.option("--export", help="Folder or s3://bucket/prefix that receives the products; see `export`.")
@click.option("-v", "--verbose", count=True, help="Show Dagster's messages; -vv: also its debug messages.")
def map_scenes(
    scenes: tuple[str, ...], ids_file: str | None, family: str | None, models: str | None, through: str,
    only_missing: bool, dry_run: bool, workers: int | None, shard: str | None, offline: bool, export: str | None,
    verbose: int, **filters: Any,
) -> None:  # fmt: skip
    """Map thaw slumps in an area, in tiles or in single scenes, and keep what is finished.

    Searches for scenes, registers them in the Dagster instance of DAGSTER_HOME (default: a new one beside the store),
    and processes what is missing. Run the same command again to continue after an interruption or to repeat failed
    scenes. The exit code is 1 if a scene failed.

    Example: darts-assets map --aoi area.gpkg --years 2021-2023 --months 7,8 --export results
    """
    from rich.console import Console

    begin(verbose)
    console = Console()
    for name, value in (("DARTS_MODELS", models), ("DARTS_OFFLINE", "true" if offline else None)):
        if value:
            os.environ[name] = value  # of the workers as well
    with ending():
        from darts_assets.area_mapping.map_area import AreaRequest, instance_home, map_area
        from darts_assets.definitions import build_defs
        from darts_assets.orchestration.core.partitions import FAMILIES
        from darts_assets.scene_shards import Shard
        from darts_assets.settings import settings

        current = settings()
        defs = build_defs(current)
        items = tuple(scene for scene in scenes if _is_item(scene))
        chosen = _family(family, items, (defs.resources or {})["scenes"].access.options)
        ids = [*(scene for scene in scenes if not _is_item(scene)), *_ids_of(ids_file)]
        request = AreaRequest(
            FAMILIES[chosen],
            _choice(chosen, ids, is_complete=bool(items), **filters),
            items,
            repeat_acquisitions=bool(filters["repeat_acquisitions"]),
            through=through,
            everything=not only_missing,
            shard=Shard.parse(shard) if shard else None,
            workers=workers,
            dry_run=dry_run,
            export=export,
            verbosity=verbose,
        )
        code = map_area(request, current, defs, instance_home(current, console), console)
    sys.exit(code)


def _choice(family: str, ids: list[str], *, is_complete: bool, **filters: Any) -> "SceneChoice | PlanetChoice | None":
    """The selection that the options describe; None if items are all that is requested.

    Raises:
        click.UsageError: if options do not apply, or a value is invalid.
    """
    from pydantic import ValidationError

    from darts_assets.orchestration.scene_discovery.planet_selection import PlanetChoice
    from darts_assets.orchestration.scene_discovery.selection import SceneChoice

    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    for name in ("tiles", "folders", "further_sources"):
        if name in given:
            given[name] = [part.strip() for part in given[name].split(",") if part.strip()]
    if ids:
        given["scene_ids"] = ids
    if is_complete and not given.keys() - {"repeat_acquisitions"}:
        return None
    kind = PlanetChoice if family == "planet" else SceneChoice
    if foreign := [name for name in given if name not in kind.model_fields]:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
        raise click.UsageError(f"{options}: not for the family {family}")
    if not given and kind is SceneChoice:
        raise click.UsageError("no scenes are selected: set --aoi, --tiles, --scene or --ids-file")
    try:
        return kind(**given)
    except ValidationError as error:
        problems = "; ".join(f"--{str(e['loc'][0]).replace('_', '-')}: {e['msg']}" for e in error.errors())
        raise click.UsageError(problems) from None


def _family(given: str | None, items: tuple[str, ...], s3: "S3Options") -> str:
    """The family of the scenes; UsageError if items are of another one."""
    from darts_assets.orchestration.scene_discovery.registration import family_at

    of_items = {family_at(item, s3).name for item in items}
    families = of_items | ({given} if given else set())
    if len(families) > 1:
        raise click.UsageError(f"--scene has scenes of several families: {', '.join(sorted(families))}")
    return families.pop() if families else "sentinel2"


def _is_item(scene: str) -> bool:
    """Whether a scene is given by its item or folder, not by its id."""
    return "/" in scene or scene.endswith(".json") or Path(scene).expanduser().exists()


def _ids_of(file: str | None) -> list[str]:
    """The scene ids in a file: a JSON list, or one per line, where `#` starts a comment."""
    if not file:
        return []
    try:
        text = Path(file).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--ids-file {file}: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    if text.lstrip().startswith("["):
        try:
            ids = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise click.UsageError(f"--ids-file {file} is not JSON: {error}") from None
    else:
        ids = [scene for line in text.splitlines() if (scene := line.partition("#")[0].strip())]
    if not ids or not all(isinstance(scene, str) for scene in ids):
        raise click.UsageError(f"--ids-file {file} has no scene ids; expected a JSON list, or one per line")
    return ids


def begin(verbose: int) -> None:
    """Hide the warnings of libraries unless the user asks for them, and treat SIGTERM like Ctrl-C."""
    if not verbose:
        warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def ending() -> Iterator[None]:
    """End the command with one sentence if it fails or is interrupted."""
    try:
        yield
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Interrupted. Run the command again: finished work is kept.", err=True)
        sys.exit(130)


@click.command()
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
@click.option("-v", "--verbose", count=True, help="Show Dagster's messages; -vv: also its debug messages.")
def demo(folder: Path, scenes: int, size: int, seed: int, verbose: int) -> None:
    """Generate synthetic scenes and terrain, map thaw slumps as `map` does, and compare them with the truth."""
    begin(verbose)
    with ending():
        from darts_assets.definitions import build_defs
        from darts_assets.demo_runner import run_demo

        code = run_demo(folder, build_defs, scenes=scenes, size=size, seed=seed, verbosity=verbose)
    sys.exit(code)


@click.command()
@click.option("-v", "--verbose", count=True, help="Show Dagster's messages; -vv: also its debug messages.")
def publish(verbose: int) -> None:
    """Update inventory, catalog and map from the results of all scenes.

    Merges the detections of all scenes into the inventory of each year, follows slumps through the years, and writes
    the STAC catalog, the table of detections and the map. Computes only what has changed.
    """
    from rich.console import Console

    begin(verbose)
    console = Console()
    with ending():
        from darts_assets.area_mapping.map_area import instance_home
        from darts_assets.area_mapping.publish_results import publish_results
        from darts_assets.definitions import build_defs
        from darts_assets.settings import settings

        current = settings()
        code = publish_results(build_defs(current), instance_home(current, console), console, verbose)
    sys.exit(code)
