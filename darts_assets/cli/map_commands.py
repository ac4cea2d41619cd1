"""Commands that process scenes: `demo`."""

import sys
from pathlib import Path

import click

from darts_assets.errors import DartsError


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
def demo(folder: Path, scenes: int, size: int, seed: int) -> None:
    """Generate synthetic scenes and terrain, map thaw slumps with Dagster, and compare them with the truth."""
    from darts_assets.definitions import build_defs
    from darts_assets.demo_runner import run_demo

    try:
        sys.exit(run_demo(folder, build_defs, scenes=scenes, size=size, seed=seed))
    except DartsError as error:
        raise click.ClickException(str(error)) from error
