"""Patches of an image put together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import shapely
import torch

from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.stitching import stitched

SIDE = 8


@dataclass(frozen=True)
class Numbered:
    """Predicts a tenth of the number of the patch."""

    def predict(
        self, numbers: Sequence[int], batch_size: int = 1, once: bool = False
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for number in numbers:
            labels = torch.full((SIDE, SIDE), number % 2, dtype=torch.uint8)
            labels[0] = 2
            yield torch.full((SIDE, SIDE), number / 10), labels


def set_of(samples: pd.DataFrame) -> TrainingSet:
    return TrainingSet(StoreLocation("/nowhere"), ("red",), SIDE, "darts-2025", None, "", samples)


def test_overlaps_are_averaged_and_gaps_ignored() -> None:
    outline = shapely.to_wkb(shapely.box(-135, 68, -134.99, 68.01))
    samples = pd.DataFrame(
        {"sample_id": ["a", "b", "a"], "region": "Peel", "row": [4, 0, 10], "col": [2, 0, 8], "geometry": outline}
    )
    first, second = stitched(Numbered(), set_of(samples), [0, 1, 2])
    assert (first.sample_id, second.sample_id, first.patches) == ("a", "b", 2)
    assert first.probabilities.shape == (14, 14)
    assert first.probabilities[2, 2] == 0
    assert first.probabilities[7, 7] == pytest.approx(0.1), "the mean of patches 0 and 2"
    assert first.probabilities[12, 12] == pytest.approx(0.2)
    assert first.labels[6, 7] == 0, "only one of two patches has a label here"
    assert first.labels[0, 13] == first.labels[0, 0] == 2
    assert first.pixel_area == pytest.approx(1115 * 418 / SIDE**2, rel=0.01)


def test_patches_without_positions_are_images_of_their_own() -> None:
    samples = pd.DataFrame({"sample_id": ["a", "a"], "region": "Peel"})
    first, second = stitched(Numbered(), set_of(samples), [1, 0])
    assert np.unique(first.probabilities).tolist() == pytest.approx([0.1])
    assert second.labels[1, 1] == 0
    assert first.pixel_area is None
