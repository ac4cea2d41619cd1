"""Batches count each pixel of an image once, on demand."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.batches import Batches
from darts_assets.training.fit.training_set import TrainingSet

SIDE = 8
STARTS = [(0, 0), (0, 6), (0, 9), (6, 0), (6, 6), (6, 9), (9, 0), (9, 6), (9, 9)]
"""Patches of 8 x 8 pixels with an overlap of 2; the last ones are shifted to end with an image of 17 x 17."""


@dataclass(frozen=True)
class OfOnes(TrainingSet):
    """A set whose pixels are all slump."""

    def patch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((1, SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), np.uint8)


def set_of(samples: pd.DataFrame) -> TrainingSet:
    return OfOnes(StoreLocation("/nowhere"), ("red",), SIDE, "darts-2025", None, "", samples)


def labels_of(data: TrainingSet, numbers: list[int], **options: bool) -> dict[int, torch.Tensor]:
    batches = Batches(data, numbers, 4, **options)
    return dict(zip(numbers, torch.cat([labels for _, labels in batches]), strict=True))


def test_overlapping_patches_count_a_pixel_once() -> None:
    rows = [{"sample_id": image, "row": row, "col": col} for image in ("a", "b") for row, col in STARTS]
    data, numbers = set_of(pd.DataFrame(rows)), [*range(17, 8, -1), *range(9)]
    counts = {"a": np.zeros((17, 17), int), "b": np.zeros((17, 17), int)}
    for number, labels in labels_of(data, numbers, once=True).items():
        sample, row, col = data.samples.iloc[number][["sample_id", "row", "col"]]
        counts[sample][row : row + SIDE, col : col + SIDE] += labels.numpy() == 1
    assert (counts["a"] == 1).all()
    assert (counts["b"] == 1).all()
    assert all((labels == 1).all() for labels in labels_of(data, numbers).values()), "training sees all of each patch"
    alone = labels_of(data, [4, 13], once=True)
    assert all((labels == 1).all() for labels in alone.values()), "patches of other images and parts are independent"


def test_images_of_one_scene_that_overlap_count_a_pixel_once() -> None:
    rows = [
        {"sample_id": f"image-{n}", "scene_id": scene, "row": 0, "col": 0, "grid_row": 100, "grid_col": 200 + 5 * n}
        for n, scene in enumerate(["one", "one", "other"])
    ]
    counted = [
        int((labels == 1).sum()) for labels in labels_of(set_of(pd.DataFrame(rows)), [0, 1, 2], once=True).values()
    ]
    assert counted == [64, 40, 64]
    rows[0]["grid_row"] = None  # of a sample of an earlier release: its place on the grid is unknown
    counted = [int((labels == 1).sum()) for labels in labels_of(set_of(pd.DataFrame(rows)), [0, 1], once=True).values()]
    assert counted == [64, 64]


def test_a_set_without_positions_is_taken_as_it_is() -> None:
    data = set_of(pd.DataFrame({"sample_id": ["a", "a"]}))
    assert all((labels == 1).all() for labels in labels_of(data, [0, 1], once=True).values())
