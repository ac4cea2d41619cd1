"""Patches of an image put together: probabilities averaged where patches overlap, and labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from darts_assets.training.fit.training_set import IGNORE, TrainingSet


class Predicts(Protocol):
    """Predicts patches of a set; see `report.Predictor`."""

    def predict(
        self, numbers: Sequence[int], batch_size: int = 1, once: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield probabilities (float32) and labels of each patch: (rows, columns)."""


@dataclass(frozen=True, eq=False)
class Stitched:
    """Patches of an image, of the images that were cut from one scene, or one patch of a set without positions.

    Attributes:
        sample_id: the image, or the first one.
        region: its region.
        patches: number of patches.
        pixel_area: area of a pixel in m2; None if the set has no geometries.
        probabilities: float32 (rows, columns); 0 where there is no patch.
        labels: see `TrainingSet.patch`; ignored where there is no patch.
    """

    sample_id: str
    region: str
    patches: int
    pixel_area: float | None
    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]


def stitched(predictor: Predicts, data: TrainingSet, numbers: Sequence[int], batch_size: int = 1) -> Iterator[Stitched]:
    """Predict patches, and yield the images or scenes that they were cut from; one is in memory at a time."""
    side = data.patch_size
    for _, patches in data.placed(numbers):
        number = int(patches["number"].iloc[0])
        first = data.samples.iloc[number]
        starts = patches[["row", "col"]].to_numpy(np.int64)
        starts = starts - starts.min(axis=0)
        shape = tuple(int(end) for end in starts.max(axis=0) + side)
        total, count = np.zeros(shape, np.float32), np.zeros(shape, np.uint16)
        labels = np.full(shape, IGNORE, np.float32)
        predicted = predictor.predict([int(number) for number in patches["number"]], batch_size)
        for (row, col), (probabilities, truth) in zip(starts.tolist(), predicted, strict=True):
            window = np.s_[row : row + side, col : col + side]
            total[window] += probabilities.numpy()
            count[window] += 1
            labels[window] = np.where(truth == IGNORE, labels[window], truth)
        total /= np.maximum(count, 1)
        names = str(first["sample_id"]), str(first["region"])
        yield Stitched(*names, len(patches), data.pixel_area(number), total, labels)
