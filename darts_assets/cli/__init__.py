"""The command `darts-assets`."""

import signal

import click

from darts_assets.cli.catalog_commands import stac_ndjson
from darts_assets.cli.map_commands import demo, map_scenes, publish
from darts_assets.cli.metrics_commands import metrics_server
from darts_assets.cli.review_commands import map_server, review
from darts_assets.cli.scene_commands import export, path, register, sync
from darts_assets.cli.setup_commands import doctor, end_dead_runs, migrate, prepare_instance, settings_in_force
from darts_assets.cli.train_commands import train


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="darts_assets")
def cli() -> None:
    """Map retrogressive thaw slumps from satellite scenes.

    `map` processes scenes by the assets of a Dagster instance. In Dagster's UI (`dagster dev`) the same assets are
    processed scene by scene or by backfills.
    """


for command in (
    map_scenes, demo, publish, map_server, review, register, sync, doctor, settings_in_force, path, export, migrate,
    end_dead_runs, prepare_instance, metrics_server, stac_ndjson, train,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Entry point of the command."""
    # Background jobs of scripts start with SIGINT ignored. Dagster then ignores SIGTERM as well, and so do the
    # processes that mirror its logs, which Dagster could not terminate.
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
    cli()
