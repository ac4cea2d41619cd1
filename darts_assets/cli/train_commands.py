"""The command that trains a model: `train`."""

import json
import os
import sys
from typing import Any

import click

from darts_assets.cli.map_commands import begin, ending


class _Setting(click.ParamType):  # type: ignore[type-arg]
    """`NAME=VALUE`, where the value is JSON, else a text."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not equals or not name.isidentifier():
            self.fail(f"{value!r}: expected NAME=VALUE, such as learning_rate=0.003", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


@click.command()
@click.option(
    "--labels", required=True,
    help="Vector file of outlines; a folder with such a file for each expert; or a label archive.",
)  # fmt: skip
@click.option(
    "--images", multiple=True,
    help="Sentinel-2 scenes: STAC items, SAFE products, GeoTIFFs, folders of them, or scene ids. With a label archive: "
    "folders of Planet images, or `matched` for the Sentinel-2 scenes that match its footprints. Can be repeated.",
)  # fmt: skip
@click.option("--area", help="Vector file of the area in which all slumps are outlined. Default: the whole scenes.")
@click.option("--regions", help="Regions by which the set is split: a vector file, its URL, or `geoboundaries`.")
@click.option("--image-bands", help="Comma-separated bands of GeoTIFFs; nothing between commas for unused ones.")
@click.option("--image-offset", type=float, help="Reflectance of digital number 0 of GeoTIFFs.  [default: 0]")
@click.option("--optical-only", is_flag=True, help="No terrain and no trends: fetch neither.")
@click.option("--patch-size", type=click.IntRange(1), help="Pixels. Default: what suits the scenes; 1024 for archives.")
@click.option("--dataset", default="default", show_default=True, help="Name of the training set.")
@click.option("--name", default="slumps", show_default=True, help="Name of the model.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the set at most.  [default: 100]")
@click.option("--device", help="auto, cpu, cuda or the index of a GPU.  [default: auto]")
@click.option(
    "-p", "--parameter", "parameters", type=_Setting(), multiple=True,
    help="Another parameter of training/model, such as learning_rate=0.003. Can be repeated.",
)  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Scenes that are preprocessed at a time.")
@click.option("-v", "--verbose", count=True, help="Show Dagster's messages; -vv: also its debug messages.")
def train(
    labels: str, images: tuple[str, ...], area: str | None, regions: str | None, image_bands: str | None,
    image_offset: float | None, optical_only: bool, patch_size: int | None, dataset: str, name: str,
    epochs: int | None, device: str | None, parameters: tuple[tuple[str, Any], ...], workers: int | None, verbose: int,
) -> None:  # fmt: skip
    """Train a model from labels and images.

    Registers and preprocesses the images, cuts and assembles the training set, proves that its splits leak nothing, and
    trains a model, by the assets of the Dagster instance of DAGSTER_HOME (default: a new one beside the store). Run the
    same command again to continue after an interruption.

    Example: darts-assets train --labels slumps.gpkg --images scenes/ --name mine
    """
    from rich.console import Console

    begin(verbose)
    console = Console()
    if optical_only:
        os.environ["DARTS_AUXILIARY"] = "none"  # of the workers as well
    with ending():
        from darts_assets.area_mapping.map_area import instance_home
        from darts_assets.area_mapping.train_model import TrainRequest, train_model
        from darts_assets.definitions import build_defs
        from darts_assets.settings import settings

        given = {"area": area, "regions": regions, "patch_size": patch_size}
        raster = {"bands": image_bands.split(",") if image_bands else None, "offset": image_offset}
        model = {**dict(parameters), "epochs": epochs, "device": device}
        request = TrainRequest(
            labels, images,
            samples={key: value for key, value in given.items() if value is not None},
            scenes={key: value for key, value in raster.items() if value is not None},
            model={key: value for key, value in model.items() if value is not None},
            dataset=dataset, name=name, workers=workers, verbosity=verbose,
        )  # fmt: skip
        current = settings()
        code = train_model(request, current, build_defs(current), instance_home(current, console), console)
    sys.exit(code)
