"""Commands for a setup, its store and its Dagster instance."""

import logging
import os
import sys

import click

from darts_assets.errors import DartsError


@click.command()
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


@click.command("settings")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document.")
def settings_in_force(as_json: bool) -> None:
    """Print the settings and the parameters of the steps that are in force, and where each comes from.

    Sources are the environment (DARTS_...), the settings file darts.toml (in this folder or one above, or that of
    DARTS_CONFIG), and defaults. Secrets are not shown.
    """
    from darts_assets.settings import settings
    from darts_assets.settings_report import SettingsReport

    try:
        report = SettingsReport(settings())
        click.echo(report.as_json() if as_json else report.as_text())
    except DartsError as error:
        raise click.ClickException(str(error)) from error


@click.command()
def migrate() -> None:
    """Convert the store of DARTS_STORE, written by a former release, without fetching or computing again.

    No run may be active. After an interruption (Ctrl-C) the same command continues.
    """
    from darts_assets.settings import settings
    from darts_assets.store_migration import migrate_store

    try:
        done = migrate_store(settings().root, click.echo)
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        raise click.ClickException("interrupted; `darts-assets migrate` converts the rest") from None
    converted = f"{done.tiles} tiles and {done.cubes} cubes converted"
    if not done.problems:
        click.echo(f"{converted}; the store has the layout of this release")
        return
    for part, reason in done.problems.items():
        click.echo(f"{part}: {reason}", err=True)
    raise click.ClickException(
        f"{converted}, {len(done.problems)} failed (above); `darts-assets migrate` tries them again"
    )


@click.command("end-dead-runs")
@click.option(
    "--run", "runs", multiple=True, metavar="RUN_ID",
    help="End this run too, whose process is gone; for runs of other hosts and containers. Repeatable.",
)  # fmt: skip
def end_dead_runs(runs: tuple[str, ...]) -> None:
    """End runs whose process was killed, and free the slots of pools that they claim.

    Dagster goes on to show such runs as running, and steps of the same pools wait for their slots. Runs whose process
    exists on this host are left alone. Runs of other hosts are listed with the command that ends them.
    """
    import dagster as dg

    from darts_assets.orchestration.run_monitoring import dead_runs

    if not os.environ.get("DAGSTER_HOME"):
        raise click.ClickException("DAGSTER_HOME is not set: set it to the folder of the Dagster instance")
    with dg.DagsterInstance.get() as instance:
        unknown = [run for run in runs if instance.get_run_by_id(run) is None]
        if unknown:
            raise click.ClickException(f"{', '.join(unknown)}: not in the Dagster instance; expected ids of runs")
        log = logging.getLogger("darts_assets.end_dead_runs")
        log.setLevel(logging.INFO)
        log.propagate, log.handlers = False, [logging.StreamHandler(sys.stdout)]
        done = dead_runs.end_dead_runs(instance, log, lost=runs)
    if not (done.ended or done.freed or done.undecided):
        click.echo("no dead runs, and no slots claimed by ended runs")


_POOL = "DAGSTER_POOL_"


def _limits(context: click.Context, parameter: click.Parameter, pools: tuple[str, ...]) -> dict[str, int]:
    limits = {}
    given = [f"{name.removeprefix(_POOL)}={limit}" for name, limit in os.environ.items() if name.startswith(_POOL)]
    for text in (*given, *pools):
        pool, _, limit = text.partition("=")
        if not pool or not limit.isdecimal():
            raise click.BadParameter(f"{text}: expected POOL=LIMIT, such as cdse=4")
        limits[pool] = int(limit)
    return limits


@click.command("prepare-instance")
@click.argument("pools", nargs=-1, metavar="[POOL=LIMIT]...", callback=_limits)
def prepare_instance(pools: dict[str, int]) -> None:
    """Create or migrate the database of the Dagster instance in DAGSTER_HOME, and set the limits of pools.

    Limits are also read from the environment: DAGSTER_POOL_cdse=4 is cdse=4.

    All servers of a deployment may run this before they start: one prepares the database, the others wait for it.
    """
    from darts_assets.orchestration.core import instance_database

    if not os.environ.get("DAGSTER_HOME"):
        raise click.ClickException("DAGSTER_HOME is not set: set it to the folder of the Dagster instance")
    try:
        instance_database.prepare_instance(pools, click.echo)
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    click.echo("the database of the Dagster instance is ready")
