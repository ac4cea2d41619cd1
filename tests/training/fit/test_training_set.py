"""Labels of a set: classes, or the share of experts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from darts_assets.errors import NotReadableError
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.training_set import IGNORE, TrainingSet, majority
from tests.training.fit.conftest import SIDE, write_set


def labels(kind: type[np.generic], *values: float) -> np.ndarray:
    patch = np.zeros((SIDE, SIDE), kind)
    patch[0, : len(values)] = values
    return patch


def first_labels(folder: Path, patch: np.ndarray) -> np.ndarray:
    inputs = np.full((13, SIDE, SIDE), 0.5, np.float32)
    data = write_set(folder / "set", [({"sample_id": "a", "region": "Peel"}, inputs, patch)])
    return np.asarray(data.patch(0)[1])


def test_shares_of_experts_are_kept_and_missing_ones_ignored(tmp_path: Path) -> None:
    read = first_labels(tmp_path, labels(np.float32, 0.25, 1, np.nan))
    assert read.dtype == np.float32
    assert read[0, :4].tolist() == [0.25, 1, IGNORE, 0]


def test_classes_are_small_integers(tmp_path: Path) -> None:
    read = first_labels(tmp_path, labels(np.int64, 1, 2))
    assert read.dtype == np.uint8
    assert read[0, :3].tolist() == [1, IGNORE, 0]


def test_the_agreement_of_experts_is_read(tmp_path: Path) -> None:
    first_labels(tmp_path, labels(np.float32, 0.25))
    with (tmp_path / "set" / "config.toml").open("a") as config:
        config.write("[experts]\nnumber = 12\nmean_iou = 0.592\nlowest_iou = 0.339\nhighest_iou = 0.768\n")
    data = TrainingSet.open(StoreLocation(str(tmp_path / "set")))
    assert data.experts == {"number": 12, "mean_iou": 0.592, "lowest_iou": 0.339, "highest_iou": 0.768}


@pytest.mark.parametrize("patch", [labels(np.float32, 1.5), labels(np.float32, -0.1), labels(np.uint8, 3)])
def test_other_labels_are_refused(tmp_path: Path, patch: np.ndarray) -> None:
    with pytest.raises(NotReadableError, match="unknown label"):
        first_labels(tmp_path, patch)


def test_the_majority_is_more_than_half() -> None:
    shares = torch.tensor([0, 0.5, 0.51, 1, IGNORE])
    assert majority(shares).tolist() == [0, 0, 1, 1, 2]
    assert majority(torch.tensor([0, 1, 2], dtype=torch.uint8)).tolist() == [0, 1, 2]
