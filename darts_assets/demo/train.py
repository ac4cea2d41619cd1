"""Train the checkpoint of the package: `python -m darts_assets.demo.train`.

A small U-Net learns on worlds of other seeds than the demo's, from tiles that went through the real chain, and is then
judged on the demo's world as a user would see it.
"""

import argparse
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from rasterio.features import rasterize

from darts_assets.bands import FEATURES, TCVIS, TERRAIN, band
from darts_assets.demo import DEMO_CHECKPOINT, build_world, score
from darts_assets.demo.in_memory_chain import detect, scene_features
from darts_assets.features import Convention
from darts_assets.model import CheckpointHeader, SegmentParameters
from darts_assets.model.networks import save_checkpoint
from darts_assets.tiles import geobox_of

_log = logging.getLogger(__name__)

TERRAIN_CONVENTION: Convention = "darts-2025"
ARCHITECTURE: dict[str, Any] = {
    "arch": "unet",
    "encoder_name": "timm-mobilenetv3_small_minimal_100",
    "encoder_weights": None,
    "decoder_channels": [64, 48, 32, 24, 16],
    "in_channels": len(FEATURES),
    "classes": 1,
}
_DEMO_SEED = 7
_FIRST_SEED = 101
_CROP = 192
_BATCH = 16
_ON_SLUMP = 0.6
"""Fraction of crops with slumps, which cover only a thousandth of the ground."""
_IGNORED = 255


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A training scene.

    Attributes:
        inputs: model representation, float16 (bands, rows, columns).
        labels: 1 slump, 0 none, 255 where the scene has no data; uint8 (rows, columns).
        slumps: row and column of a pixel of each slump, (n, 2).
    """

    inputs: npt.NDArray[np.float16]
    labels: npt.NDArray[np.uint8]
    slumps: npt.NDArray[np.intp]


def main(arguments: list[str] | None = None) -> None:
    """Train, write the checkpoint, and print its scores on the demo world."""
    parser = argparse.ArgumentParser(prog="python -m darts_assets.demo.train", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=DEMO_CHECKPOINT, help="the checkpoint to write")
    parser.add_argument("--worlds", type=int, default=6, help="how many worlds of three scenes to learn from")
    parser.add_argument("--steps", type=int, default=400, help=f"batches of {_BATCH} crops of {_CROP} pixels")
    parser.add_argument("--seed", type=int, default=0, help="of crops and initial weights")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        samples = [
            sample for n in range(options.worlds) for sample in read_samples(Path(folder) / "world", _FIRST_SEED + n)
        ]
        model = fit(samples, options.steps, options.seed)
        header = save_checkpoint(
            options.out, model, ARCHITECTURE, FEATURES, TERRAIN_CONVENTION,
            seed=options.seed, steps=options.steps, worlds=options.worlds,
        )  # fmt: skip
        evaluate(header, Path(folder) / "demo")


def read_samples(folder: Path, seed: int) -> list[Sample]:
    """Training scenes of a world with many slumps, built in `folder`."""
    world = build_world(folder, seed=seed, size=1024, slumps=30)
    truth = gpd.read_file(world.truth)
    samples = []
    for item in world.items:
        tile = scene_features(world, item, TERRAIN_CONVENTION)
        outlines = truth[truth["scene_id"] == item.stem].geometry
        geobox = geobox_of(tile)
        numbers = rasterize(
            [(outline, number) for number, outline in enumerate(outlines, 1)],
            out_shape=tuple(geobox.shape), transform=geobox.affine, dtype="int32",
        )  # fmt: skip
        slumps = [np.argwhere(numbers == number).mean(axis=0) for number in np.unique(numbers[numbers > 0])]
        labels = np.where(tile["quality_data_mask"].values == 0, _IGNORED, numbers > 0).astype(np.uint8)
        inputs = np.stack([band(name).to_model(tile[name].values).astype(np.float16) for name in FEATURES])
        samples.append(Sample(inputs, labels, np.array(slumps, dtype=np.intp).reshape(-1, 2)))
    _log.info("world %d: %d slumps", seed, sum(len(sample.slumps) for sample in samples))
    return samples


def fit(samples: list[Sample], steps: int, seed: int) -> torch.nn.Module:
    """Train a model on random crops with cross entropy and Dice loss."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model: torch.nn.Module = smp.create_model(**ARCHITECTURE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.1)
    cross_entropy = smp.losses.SoftBCEWithLogitsLoss(ignore_index=_IGNORED)
    dice = smp.losses.DiceLoss(mode="binary", ignore_index=_IGNORED)
    model.train()
    smoothed = 1.0
    for step in range(1, steps + 1):
        inputs, labels = _batch(samples, rng)
        logits = model(inputs)
        loss = cross_entropy(logits, labels) + dice(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        smoothed += 0.05 * (loss.item() - smoothed)
        if step % 50 == 0:
            _log.info("step %d of %d: loss %.3f", step, steps, smoothed)
    return model.eval()


def evaluate(header: CheckpointHeader, folder: Path) -> None:
    """Print the score of each scene of the demo world, with default parameters."""
    world = build_world(folder, seed=_DEMO_SEED)
    truth = gpd.read_file(world.truth)
    for item in world.items:
        tile = scene_features(world, item, TERRAIN_CONVENTION)
        detected, extent = detect(tile, header, SegmentParameters(device="cpu"))
        print(item.stem, score(detected, truth[truth["scene_id"] == item.stem], extent))


def _batch(samples: list[Sample], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops (n, bands, crop, crop) and their labels (n, 1, crop, crop), randomly rotated, mirrored and perturbed."""
    crops = [_crop(samples[int(rng.integers(len(samples)))], rng) for _ in range(_BATCH)]
    inputs, labels = (np.stack(parts) for parts in zip(*crops, strict=True))
    return torch.from_numpy(inputs), torch.from_numpy(labels[:, None])


def _crop(sample: Sample, rng: np.random.Generator) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    limit = np.array(sample.labels.shape) - _CROP
    if len(sample.slumps) and rng.random() < _ON_SLUMP:
        corner = sample.slumps[rng.integers(len(sample.slumps))] - rng.integers(20, _CROP - 20, 2)
    else:
        corner = rng.integers(0, limit + 1)
    row, column = np.clip(corner, 0, limit)
    window = np.s_[row : row + _CROP, column : column + _CROP]
    inputs = sample.inputs[:, *window].astype(np.float32)
    labels = sample.labels[window].astype(np.float32)
    _disturb(inputs, rng)
    # Aspect keeps its values: it then names directions of a turned map, which only makes the task harder.
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
    inputs, labels = np.rot90(inputs, turns, axes=(1, 2)), np.rot90(labels, turns)
    if mirrored:
        inputs, labels = inputs[..., ::-1], labels[..., ::-1]
    return np.ascontiguousarray(inputs), np.ascontiguousarray(labels)


def _disturb(inputs: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    """Change the brightness, and sometimes remove terrain or trends like a data gap; in place."""
    optical = [FEATURES.index(name) for name in ("red", "green", "blue", "nir")]
    low, high = band("red").valid
    black = -low / (high - low)
    inputs[optical] = black + (inputs[optical] - black) * rng.uniform(0.85, 1.15)
    for layer in (TERRAIN, TCVIS):
        if rng.random() < 0.08:
            inputs[[FEATURES.index(name) for name in layer]] = 0


if __name__ == "__main__":
    main()
