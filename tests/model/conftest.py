from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox

from darts_assets.bands import FEATURES, VISIBLE_NIR
from darts_assets.model import CheckpointHeader, read_header
from darts_assets.model.networks import save_checkpoint
from darts_assets.tiles import on_grid

SMALL = {
    "arch": "unet",
    "encoder_name": "timm-mobilenetv3_small_minimal_100",
    "encoder_depth": 3,
    "decoder_channels": (16, 8, 8),
    "classes": 1,
}


@pytest.fixture(scope="session")
def architecture() -> Callable[[int], dict[str, Any]]:
    return lambda channels: {**SMALL, "in_channels": channels}


@pytest.fixture(scope="session")
def network() -> Callable[[int, int], torch.nn.Module]:
    def build(channels: int, seed: int = 1) -> torch.nn.Module:
        torch.manual_seed(seed)
        return smp.create_model(**SMALL, in_channels=channels, encoder_weights=None).eval()

    return build


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, network: Any, architecture: Any) -> CheckpointHeader:
    """A model of the first five features."""
    path = tmp_path_factory.mktemp("models") / "small.ckpt"
    return save_checkpoint(path, network(5), architecture(5), FEATURES[:5], "darts-2025")


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory, network: Any, architecture: Any) -> CheckpointHeader:
    """A model of other features, in another order."""
    path = tmp_path_factory.mktemp("models") / "other.ckpt"
    return save_checkpoint(path, network(3, 2), architecture(3), ("slope", "tc_wetness", "red"), "darts-2025")


@pytest.fixture(scope="session")
def noise() -> Callable[..., xr.Dataset]:
    """A tile of all features with plausible values and holes."""

    def tile(height: int, width: int, seed: int = 0) -> xr.Dataset:
        random = np.random.default_rng(seed)
        ranges = {"slope": (0, 40), "aspect": (0, 360), "relative_elevation": (-20, 20), "ndvi": (-0.5, 1)}
        bands = {}
        for name in FEATURES:
            if name.startswith("tc_"):
                bands[name] = random.integers(0, 256, (height, width), dtype="uint8")
            else:
                bands[name] = random.uniform(*ranges.get(name, (0, 0.5)), (height, width)).astype("float32")
                bands[name][random.random((height, width)) < 0.02] = np.nan
        return on_grid(bands, GeoBox.from_bbox((0, 0, width * 10, height * 10), "EPSG:32608", resolution=10))

    return tile


@pytest.fixture(scope="session")
def reference_headers(shared: Path) -> list[CheckpointHeader]:
    return [
        read_header(shared / "reference" / "small_tcvis_old_format.pt", "tcvis"),
        read_header(shared / "reference" / "small_notcvis_lightning.ckpt", "notcvis"),
    ]


@pytest.fixture(scope="session")
def reference(shared: Path) -> Callable[[str], xr.Dataset]:
    def read(name: str) -> xr.Dataset:
        store = zarr.storage.ZipStore(shared / "reference" / f"{name}.zarr.zip", mode="r")
        return xr.open_zarr(store, consolidated=False)

    return read


@pytest.fixture(scope="session")
def reference_tile(reference: Callable[[str], xr.Dataset]) -> xr.Dataset:
    features, optical = reference("features"), reference("optical")
    return features.assign(hillshade=features["hillshade_2026"], **{name: optical[name] for name in VISIBLE_NIR})
