"""Pixels, boundaries and objects of small images whose figures can be counted by hand."""

import math

import numpy as np
import pytest

from darts_assets.training.evaluation import Evaluation, difference, evaluate
from darts_assets.training.stitching import Stitched

SIDE = 20


def image(predicted: np.ndarray, labels: np.ndarray, name: str = "a", area: float | None = 100.0) -> Stitched:
    return Stitched(name, "Peel", 1, area, predicted.astype(np.float32), labels.astype(np.float32))


def square(row: int, col: int, size: int, value: float = 1.0) -> np.ndarray:
    values = np.zeros((40, 40))
    values[row : row + size, col : col + size] = value
    return values


def one() -> Evaluation:
    """A slump of 8 x 8 pixels found 2 pixels too far right, one missed of 2 x 2, one false of 3 x 3."""
    truth = square(2, 2, 8) + square(30, 30, 2)
    return evaluate([image(0.9 * (square(2, 4, 8) + square(20, 20, 3)), truth)], SIDE)


def test_pixels_and_objects() -> None:
    figures = one().figures()
    hits, union = 8 * 6, 2 * 64 - 48 + 4 + 9
    assert figures["iou"] == pytest.approx(hits / union)
    assert figures["precision"] == pytest.approx(hits / (64 + 9))
    assert figures["recall"] == pytest.approx(hits / (64 + 4))
    assert (figures["object_precision"], figures["object_recall"], figures["object_f1"]) == (0.5, 0.5, 0.5)
    assert figures["brier"] == pytest.approx((hits * 0.01 + (16 + 4) + (16 + 9) * 0.81) / 1600)


def test_a_boundary_is_two_pixels_wide() -> None:
    ring = 64 - 16
    figures = evaluate([image(square(2, 2, 8), square(2, 2, 8))], SIDE).figures()
    assert figures["boundary_iou"] == 1
    inner = evaluate([image(square(3, 3, 6), square(2, 2, 8))], SIDE).figures()
    shared = (36 - 4) - (16 - 4)  # the outer pixels of the inner square lie within the ring of the outer one
    assert inner["boundary_iou"] == pytest.approx(shared / (ring + 36 - 4 - shared))
    assert inner["iou"] == pytest.approx(36 / 64)
    edge = evaluate([image(np.ones((40, 40)), np.ones((40, 40)))], SIDE).figures()
    assert math.isnan(edge["boundary_iou"]), "the edge of an image is not a boundary"


def test_sizes() -> None:
    rows = {row["size"]: row for row in one().by_size()}
    assert [row["slumps"] for row in rows.values()] == [1, 0, 1, 0, 0]
    assert [row["detections"] for row in rows.values()] == [1, 0, 1, 0, 0]
    assert rows["0-1,000 m2"]["recall"] == 0
    assert rows["3,200-10,000 m2"] == {
        "size": "3,200-10,000 m2", "slumps": 1, "detections": 1, "precision": 1, "recall": 1, "f1": 1
    }  # fmt: skip


def test_ignored_pixels_do_not_count() -> None:
    truth, predicted = square(2, 2, 8), square(2, 2, 8)
    truth[:, 20:] = 2
    predicted[:, 20:] = 1
    figures = evaluate([image(predicted, truth)], SIDE).figures()
    assert (figures["iou"], figures["brier"], figures["object_precision"]) == (1, 0, 1)


def test_the_truth_is_the_majority_of_experts() -> None:
    share = square(2, 2, 8, 0.75) + square(20, 20, 4, 0.5)
    figures = evaluate([image(square(2, 2, 8, 0.75), share)], SIDE).figures()
    assert figures["iou"] == 1
    assert figures["brier"] == pytest.approx(16 * 0.25 / 1600)


def test_objects_share_a_quarter_of_the_smaller_one() -> None:
    def matched(columns: int) -> float:
        return evaluate([image(square(2, 10 - columns, 8), square(2, 2, 8))], SIDE).figures()["object_recall"]

    assert (matched(1), matched(2)) == (0, 1)


def test_intervals_are_over_images_or_squares() -> None:
    images = [image(square(2, 2 + shift, 8), square(2, 2, 8), f"image {shift}") for shift in range(6)]
    several = evaluate(images, SIDE)
    assert several.unit == "images"
    low, high = several.intervals()["iou"]
    assert 0.2 < low < several.figures()["iou"] < high <= 1
    assert one().unit == "squares of an image"
    assert all(math.isnan(limit) for limit in one().intervals()["iou"]), "four squares are too few"
    fine = evaluate(images[:4], 5)
    assert fine.intervals()["iou"][0] < fine.figures()["iou"]


def test_a_difference_is_of_the_same_ground() -> None:
    better = evaluate([image(square(2, 2, 8), square(2, 2, 8), str(number)) for number in range(8)], SIDE)
    worse = evaluate([image(square(2, 3 + number % 3, 8), square(2, 2, 8), str(number)) for number in range(8)], SIDE)
    value, (low, high) = difference(better, worse)
    assert 0 < low < value < high < 1
    assert value == pytest.approx(1 - worse.figures()["iou"])


def test_nothing_has_no_figures() -> None:
    empty = evaluate([], SIDE)
    assert all(math.isnan(value) for value in empty.figures().values())
    nothing = evaluate([image(np.zeros((40, 40)), np.zeros((40, 40)))], SIDE).figures()
    assert math.isnan(nothing["iou"])
    assert nothing["brier"] == 0
