"""Commands for a setup and its store: `doctor`, `migrate`."""

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


@click.command()
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
