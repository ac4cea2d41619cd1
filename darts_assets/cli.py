"""`darts-assets`: what Dagster's own command line does not do: a demo, registering scenes, looking at the setup."""

import os
import signal
import sys
from pathlib import Path

import click

from darts_assets.errors import DartsError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="darts_assets")
def cli() -> None:
    """Map retrogressive thaw slumps from satellite scenes.

    Materializing is Dagster's own work: `dagster asset materialize`, `dagster dev`.
    """


@cli.command()
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=Path("darts-demo"), show_default=True,
    help="Where the demo lives: its world, its store and its Dagster instance.",
)  # fmt: skip
@click.option("--scenes", type=click.IntRange(1, 3), default=3, show_default=True, help="How many scenes.")
@click.option(
    "--size", type=click.IntRange(200, 3000), default=1500, show_default=True, help="Pixels of a scene's side."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Which world.")
def demo(folder: Path, scenes: int, size: int, seed: int) -> None:
    """Build a small Arctic, map its thaw slumps through Dagster, and compare with the truth."""
    from darts_assets.definitions import build_defs
    from darts_assets.demo_runner import run_demo

    try:
        sys.exit(run_demo(folder, build_defs, scenes=scenes, size=size, seed=seed))
    except DartsError as error:
        raise click.ClickException(str(error)) from error


@cli.command()
@click.argument("items", nargs=-1, required=True)
def register(items: tuple[str, ...]) -> None:
    """Register scenes by their STAC ITEMS (paths, https:// or s3:// URLs), Planet images by their folders.

    The items are kept in the store and each scene becomes a partition of the Dagster instance in DAGSTER_HOME.
    """
    import dagster as dg

    from darts_assets.definitions import build_defs
    from darts_assets.orchestration.scene_discovery.registration import register_any

    if not os.environ.get("DAGSTER_HOME"):
        raise click.ClickException(
            "DAGSTER_HOME is not set: without it Dagster forgets registered scenes as soon as this command ends; "
            "set it to a folder, for example: export DAGSTER_HOME=$PWD/dagster-home"
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
@click.option("--offline", is_flag=True, help="Ask no service but the store (as with DARTS_OFFLINE).")
@click.option(
    "--device", default="auto", show_default=True,
    help="That models are to run on: auto, cpu, cuda, or an index, as in the config of segmentation.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document instead of a table.")
def doctor(offline: bool, device: str, as_json: bool) -> None:
    """Look whether scenes could be mapped here, and tell what to do where they could not.

    Looks at versions, memory, GPU, Dagster's instance, store, models, keys and services, by the settings of the
    environment. Ends with 1 if something cannot work; warnings do not count. Shows no secrets.
    """
    from darts_assets.definitions import build_defs
    from darts_assets.doctor import Finding, Report, examine
    from darts_assets.settings import settings

    try:
        current = settings()
        current = current.model_copy(update={"offline": current.offline or offline})
        report = examine(current, build_defs(current).resources or {}, device=device, offline=current.offline)
    except DartsError as error:  # settings that make no sense: nothing else can be looked at
        report = Report((Finding("settings", "fail", str(error), "See the settings in darts_assets/README.md."),))
    if as_json:
        click.echo(report.as_json())
    else:
        report.show()
    sys.exit(report.failed)


def main() -> None:
    """Entry point of the command."""
    # Scripts start jobs in the background with SIGINT ignored. Dagster would then ignore SIGTERM as well, and so would
    # the processes that mirror its logs, which it ends by that signal: they would stay.
    for ended_by, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(ended_by) is signal.SIG_IGN:
            signal.signal(ended_by, handler)
    cli()
