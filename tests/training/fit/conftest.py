"""A training set of the demo world, in the layout of assembled sets, and a network that learns in seconds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from rasterio.features import rasterize

from darts_assets.bands import FEATURES, band
from darts_assets.demo import build_world
from darts_assets.demo.in_memory_chain import scene_features
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import geobox_of
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.training_set import TrainingSet

SIDE = 64
SMALL = {
    "arch": "unet",
    "encoder_name": "timm-mobilenetv3_small_minimal_100",
    "encoder_weights": None,
    "encoder_depth": 3,
    "decoder_channels": [16, 8, 8],
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and wait for each other where other tests run beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def quick() -> FitParameters:
    """Two epochs on the set, in seconds."""
    return FitParameters(architecture=SMALL, epochs=2, batch_size=4, learning_rate=3e-3, device="cpu", folds=3)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """Patches of three scenes with many slumps, a region for each scene, a row of pixels ignored in each patch."""
    folder = tmp_path_factory.mktemp("training")
    return write_set(folder / "set", list(demo_patches(folder / "world")))


def demo_patches(folder: Path) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    world = build_world(folder, seed=11, scenes=3, size=256, slumps=8)
    truth = gpd.read_file(world.truth)
    for number, item in enumerate(world.items):
        tile = scene_features(world, item, "darts-2025")
        grid = geobox_of(tile)
        outlines = truth[truth["scene_id"] == item.stem].geometry
        labels = rasterize(outlines, out_shape=tuple(grid.shape), transform=grid.affine, dtype="uint8")
        labels[tile["quality_data_mask"].values == 0] = 2
        inputs = np.stack([band(name).to_model(tile[name].values) for name in FEATURES])
        for y in range(0, grid.shape[0] - SIDE + 1, SIDE):
            for x in range(0, grid.shape[1] - SIDE + 1, SIDE):
                window = np.s_[y : y + SIDE, x : x + SIDE]
                row = {"sample_id": item.stem, "region": f"region {number}", "y": y, "x": x}
                yield row | {"empty": not (labels[window] == 1).any()}, inputs[:, *window], labels[window]


def write_set(folder: Path, patches: list[tuple[dict[str, Any], np.ndarray, np.ndarray]]) -> TrainingSet:
    rows, inputs, labels = zip(*patches, strict=True)
    group = zarr.open_group(folder / "data.zarr", mode="w", zarr_format=3)
    for name, values in (("x", np.stack(inputs)), ("y", np.stack(labels))):
        group.create_array(name, data=values, chunks=(1, *values.shape[1:]), config={"write_empty_chunks": True})
    pd.DataFrame(rows).to_parquet(folder / "metadata.parquet")
    bands = ", ".join(f'"{name}"' for name in FEATURES)
    (folder / "config.toml").write_text(
        f'bands = [{bands}]\npatch_size = {SIDE}\nterrain = "darts-2025"\nnormalization = "v1"\n'
    )
    return TrainingSet.open(StoreLocation(str(folder)))
