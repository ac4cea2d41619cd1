"""Real ground: a Sentinel-2 clip of the Peel Plateau, and the outlines that 12 experts drew on it.

A model learns on two strips of the clip, a third says when to stop, and it is judged on the fourth; each has its turn.
"""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from odc.geo.geobox import GeoBox

from darts_assets.features.preprocess import ndvi
from darts_assets.stores.location import StoreLocation
from darts_assets.tiles import on_grid
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.trainer import fit
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.report import Predictor
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import Origin, write_sample
from darts_assets.training.set_store import TrainingSetStore

pytestmark = pytest.mark.slow

BANDS = ("blue", "green", "red", "nir", "ndvi")
SIDE, OVERLAP, STRIPS, ROWS = 32, 16, 4, 62
NETWORK = {
    "arch": "unet", "encoder_name": "timm-mobilenetv3_small_minimal_100", "encoder_weights": None, "encoder_depth": 3,
    "decoder_channels": [32, 16, 16],
}  # fmt: skip


class Peel:
    """The clip, and what the experts say."""

    def __init__(self, folder: Path) -> None:
        with rasterio.open(next((folder / "peel" / "data").glob("S2_*.tif"))) as source:
            numbers = source.read([1, 2, 3, 7]).astype(np.float32)
            self.grid = GeoBox(source.shape, source.transform, source.crs)
        blue, green, red, nir = np.where(numbers == 0, np.nan, numbers / 10_000)
        self.bands = {"blue": blue, "green": green, "red": red, "nir": nir, "ndvi": ndvi(red, nir)}
        drawn = [gpd.read_file(path).geometry for path in sorted(folder.glob("experts/*/*.shp"))]
        burn = {"out_shape": self.grid.shape, "transform": self.grid.affine, "dtype": "uint8"}
        self.experts = [rasterio.features.rasterize(shapes, **burn).astype(bool) for shapes in drawn]
        self.majority = np.sum(self.experts, axis=0) > len(self.experts) / 2

    def outlines(self) -> gpd.GeoDataFrame:
        found = rasterio.features.shapes(
            self.majority.astype(np.uint8), mask=self.majority, transform=self.grid.affine
        )  # fmt: skip
        return gpd.GeoDataFrame(geometry=[shapely.geometry.shape(shape) for shape, _ in found], crs=str(self.grid.crs))

    def make_set(self, store: TrainingSetStore) -> TrainingSet:
        """Patches of each strip as a sample."""
        quality = np.full(self.grid.shape, 2, dtype=np.uint8)
        tile = on_grid({**self.bands, "quality_data_mask": quality}, self.grid)
        parameters = PatchParameters(bands=BANDS, patch_size=SIDE, overlap=OVERLAP)
        for strip in range(STRIPS):
            part = tile.isel(y=slice(strip * ROWS, (strip + 1) * ROWS))
            origin = Origin(f"strip{strip}", "Peel Plateau")
            write_sample(store.sample(origin.image_id), part, self.outlines(), None, origin, parameters, "sentinel2")
        return TrainingSet.open(store.assemble().location)


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def best_plain_threshold(values: np.ndarray, truth: np.ndarray) -> float:
    """The IoU of the best plain threshold, chosen with the truth in sight."""
    return max(iou(values < limit, truth) for limit in np.linspace(0, 0.8, 81))


def mean_agreement(experts: list[np.ndarray]) -> float:
    return float(np.mean([iou(one, other) for one, other in combinations(experts, 2)]))


def held_out(data: TrainingSet, parameters: dict[str, Any], folder: Path) -> Iterator[tuple[int, np.ndarray]]:
    """The probabilities of each strip by a model that has seen nothing of it."""
    names = data.samples["sample_id"]
    for strip in range(STRIPS):
        result = fit(
            data,
            FitParameters(**parameters, split_by="sample", folds=3, distance=0, test=[f"strip{strip}"]),
            folder / f"{strip}.ckpt",
        )
        assert set(names.iloc[list(result.parts.test)]) == {f"strip{strip}"}
        yield strip, stitched(data, Predictor(result.header, data, "cpu"), result.parts.test)


def stitched(data: TrainingSet, predictor: Predictor, numbers: tuple[int, ...]) -> np.ndarray:
    """Probabilities of overlapping patches, averaged."""
    total = np.zeros((ROWS, 251))
    seen = np.zeros_like(total)
    for number, (probabilities, _) in zip(numbers, predictor.predict(numbers, 16), strict=True):
        row, col = data.samples[["row", "col"]].iloc[number]
        total[row : row + SIDE, col : col + SIDE] += probabilities.numpy()
        seen[row : row + SIDE, col : col + SIDE] += 1
    return total / seen


@pytest.mark.slow
def test_a_model_of_real_outlines_beats_the_best_threshold(shared: Path, tmp_path: Path) -> None:
    peel = Peel(shared / "data" / "rts_digitization_experiment")
    data = peel.make_set(TrainingSetStore(StoreLocation(str(tmp_path / "peel"))))
    parameters = {
        "architecture": NETWORK, "losses": {"bce": 1.0, "dice": 1.0}, "augmentations": ("turn", "mirror", "brightness"),
        "epochs": 20, "patience": 20, "batch_size": 16, "learning_rate": 5e-3, "device": "cpu",
    }  # fmt: skip
    found = np.zeros((STRIPS * ROWS, 251), dtype=bool)
    for strip, probabilities in held_out(data, parameters, tmp_path):
        found[strip * ROWS : (strip + 1) * ROWS] = probabilities > 0.5
    truth = peel.majority[: STRIPS * ROWS]
    model, threshold = iou(found, truth), best_plain_threshold(peel.bands["ndvi"][: STRIPS * ROWS], truth)
    agreement = mean_agreement(peel.experts)
    print(f"IoU with the majority: model {model:.3f}, best NDVI threshold {threshold:.3f}; experts {agreement:.3f}")
    assert threshold == pytest.approx(0.45, abs=0.02)
    assert agreement == pytest.approx(0.59, abs=0.01)
    assert model > threshold + 0.05
