"""Accuracy of predictions: pixels, boundaries and objects, with intervals over images.

Boundary IoU: Cheng et al. 2021, doi 10.1109/CVPR46437.2021.01508, with a boundary of two pixels. An object is a group
of pixels that touch, also at corners. It is matched if it shares at least a quarter of the smaller area with an object
of the other side, which is the first rule of `validation`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from darts_assets.training.fit.training_set import IGNORE, majority
from darts_assets.training.stitching import Stitched
from darts_assets.validation.accuracy_parameters import AccuracyParameters
from darts_assets.validation.block_bootstrap import LEAST_BLOCKS, block_intervals

Mask = npt.NDArray[np.bool_]
Sums = Mapping[str, npt.NDArray[np.float64]]

BOUNDARY = 2
"""Width of a boundary in pixels."""

SHARED = 0.25
"""Least part of the smaller of two objects that they share, if they are matched."""

RESAMPLES, SEED = 1000, 0

SIZE_CLASSES: list[float] = AccuracyParameters().size_classes
"""Limits of the size classes, m2."""

_PIXELS = ("hits", "false", "missed", "boundary_hits", "boundary_union", "squared_error", "pixels")
_OBJECTS = ("slumps", "hit_slumps", "detections", "correct_detections")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Counts of a prediction, from which figures and intervals follow.

    Attributes:
        tiles: a row for each square of an image: `sample_id`, `region`, `block` (name of the square) and sums of
            pixels: `hits`, `false`, `missed`, `boundary_hits`, `boundary_union`, `squared_error` of the probability,
            `pixels`.
        objects: a row for each object: `sample_id`, `region`, `block`, `labelled` (of the labels, or of the
            prediction), `area` (m2, NaN if unknown), `matched`.
    """

    tiles: pd.DataFrame
    objects: pd.DataFrame

    @property
    def unit(self) -> str:
        """What is resampled for intervals: images, or with fewer than five of them, squares of a patch's size."""
        return "images" if self.tiles["sample_id"].nunique() >= LEAST_BLOCKS else "squares of an image"

    def figures(self) -> dict[str, float]:
        """IoU, F1, precision and recall of pixels; boundary IoU, Brier score; those of objects. NaN where undefined."""
        totals = {name: np.array([values.sum()]) for name, values in self.sums().items()}
        return {name: float(values[0]) for name, values in statistics(totals).items()}

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Limits of the 95 % interval of each figure; NaN with fewer than five images or squares."""
        return block_intervals(self.blocks(), self.sums(), statistics, RESAMPLES, SEED)

    def by_size(self) -> list[dict[str, float | str]]:
        """Recall, precision and F1 of objects by class of their area; a detection has the class of its own area."""
        limits = [0.0, *SIZE_CLASSES, np.inf]
        rows: list[dict[str, float | str]] = []
        for low, high in pairwise(limits):
            inside = self.objects[(self.objects["area"] >= low) & (self.objects["area"] < high)]
            figures = replace(self, objects=inside).figures()
            labelled = inside["labelled"].to_numpy(bool)
            rows.append(
                {
                    "size": f"{low:,.0f}-{high:,.0f} m2" if np.isfinite(high) else f"from {low:,.0f} m2",
                    "slumps": int(labelled.sum()),
                    "detections": int((~labelled).sum()),
                    **{name: figures[f"object_{name}"] for name in ("precision", "recall", "f1")},
                }
            )
        return rows

    def of(self, column: str, value: str) -> "Evaluation":
        """The part of an image or a region."""
        return Evaluation(self.tiles[self.tiles[column] == value], self.objects[self.objects[column] == value])

    def sums(self) -> dict[str, npt.NDArray[np.float64]]:
        """Summands of the statistics: the tiles, then the objects; float64 (n,) each."""
        labelled, matched = (self.objects[name].to_numpy(bool) for name in ("labelled", "matched"))
        of_objects = (labelled, labelled & matched, ~labelled, ~labelled & matched)
        none = np.zeros(len(self.objects)), np.zeros(len(self.tiles))
        return {
            **{name: np.concatenate([self.tiles[name].to_numpy(np.float64), none[0]]) for name in _PIXELS},
            **{
                name: np.concatenate([none[1], values.astype(np.float64)])
                for name, values in zip(_OBJECTS, of_objects, strict=True)
            },
        }

    def blocks(self) -> npt.NDArray[np.object_]:
        """The unit that each summand belongs to."""
        column = "sample_id" if self.unit == "images" else "block"
        return np.concatenate([self.tiles[column].to_numpy(object), self.objects[column].to_numpy(object)])


def difference(one: Evaluation, other: Evaluation) -> tuple[float, tuple[float, float]]:
    """IoU of one prediction minus that of another of the same images, and its 95 % interval (NaN if undefined)."""
    first, second = one.sums(), other.sums()
    count = len(one.tiles)
    sums = {f"one_{name}": first[name][:count] for name in ("hits", "false", "missed")}
    sums |= {f"other_{name}": second[name][:count] for name in ("hits", "false", "missed")}

    def statistic(totals: Sums) -> dict[str, npt.NDArray[np.float64]]:
        ious = []
        for side in ("one", "other"):
            hits, false, missed = (totals[f"{side}_{name}"] for name in ("hits", "false", "missed"))
            ious.append(_ratio(hits, hits + false + missed))
        return {"difference": ious[0] - ious[1]}

    value = statistic({name: np.array([values.sum()]) for name, values in sums.items()})["difference"][0]
    interval = block_intervals(one.blocks()[:count], sums, statistic, RESAMPLES, SEED)["difference"]
    return float(value), interval


def statistics(sums: Sums) -> dict[str, npt.NDArray[np.float64]]:
    """Figures of sums (n,), by name; NaN where undefined."""
    hits, false, missed = (np.asarray(sums[name], np.float64) for name in ("hits", "false", "missed"))
    objects = [np.asarray(sums[name], np.float64) for name in _OBJECTS]
    recall, precision = _ratio(objects[1], objects[0]), _ratio(objects[3], objects[2])
    return {
        "iou": _ratio(hits, hits + false + missed),
        "f1": _ratio(2 * hits, 2 * hits + false + missed),
        "precision": _ratio(hits, hits + false),
        "recall": _ratio(hits, hits + missed),
        "boundary_iou": _ratio(sums["boundary_hits"], sums["boundary_union"]),
        "brier": _ratio(sums["squared_error"], sums["pixels"]),
        "object_precision": precision,
        "object_recall": recall,
        "object_f1": _ratio(2 * precision * recall, precision + recall),
    }


def evaluate(images: "Iterator[Stitched] | Sequence[Stitched]", side: int) -> Evaluation:
    """Count pixels and objects of images.

    A pixel is slump in the prediction above a probability of 0.5, and in labels of several experts if more than half of
    them outlined it. The squared error compares the probability with the share of experts.

    Args:
        images: predicted images.
        side: side of the squares in pixels, such as the patch size.
    """
    tiles: list[pd.DataFrame] = []
    objects: list[pd.DataFrame] = []
    for number, image in enumerate(images):
        counted = image.labels != IGNORE
        truth = majority(torch.from_numpy(image.labels)).numpy() == 1
        predicted = (image.probabilities > 0.5) & counted
        common = {"sample_id": image.sample_id, "region": image.region}
        tiles.append(_tiles(image, truth, predicted, counted, side, number).assign(**common))
        objects.append(_objects(truth, predicted, image.pixel_area, side, number).assign(**common))
    empty = ["sample_id", "region", "block"]
    return Evaluation(
        pd.concat(tiles, ignore_index=True) if tiles else pd.DataFrame(columns=[*empty, *_PIXELS]),
        pd.concat(objects, ignore_index=True)
        if objects
        else pd.DataFrame(columns=[*empty, "labelled", "area", "matched"]),
    )


def _tiles(image: Stitched, truth: Mask, predicted: Mask, counted: Mask, side: int, number: int) -> pd.DataFrame:
    edges = [_boundary(mask) & counted for mask in (truth, predicted)]
    error = np.where(counted, (image.probabilities - np.where(counted, image.labels, 0)) ** 2, 0)
    layers = (
        truth & predicted, predicted & ~truth, truth & ~predicted & counted, edges[0] & edges[1], edges[0] | edges[1],
        error, counted,
    )  # fmt: skip
    starts = [np.arange(0, length, side) for length in truth.shape]
    sums = [
        np.add.reduceat(np.add.reduceat(layer.astype(np.float64), starts[0], axis=0), starts[1], axis=1).ravel()
        for layer in layers
    ]
    names = [_block(number, int(row), int(col), side) for row in starts[0] for col in starts[1]]
    table = pd.DataFrame(dict(zip(_PIXELS, sums, strict=True)), dtype=np.float64).assign(block=names)
    return table[table["pixels"] > 0]


def _objects(truth: Mask, predicted: Mask, pixel_area: float | None, side: int, number: int) -> pd.DataFrame:
    (slumps, of_slump), (found, of_found) = (_components(mask) for mask in (truth, predicted))
    pairs, shared = np.unique(
        np.stack([of_slump[truth & predicted], of_found[truth & predicted]]), axis=1, return_counts=True
    )
    smaller = np.minimum(slumps["pixels"].to_numpy()[pairs[0] - 1], found["pixels"].to_numpy()[pairs[1] - 1])
    linked = pairs[:, shared >= SHARED * smaller]
    slumps["matched"], found["matched"] = (
        np.isin(np.arange(1, len(table) + 1), linked[row]) for row, table in enumerate((slumps, found))
    )
    table = pd.concat([slumps.assign(labelled=True), found.assign(labelled=False)], ignore_index=True)
    blocks = [
        _block(number, int(row) // side * side, int(col) // side * side, side)
        for row, col in zip(table["row"], table["col"], strict=True)
    ]
    areas = table["pixels"] * (np.nan if pixel_area is None else pixel_area)
    return table.assign(area=areas.astype(np.float64), block=blocks).drop(columns=["pixels", "row", "col"])


def _components(mask: Mask) -> tuple[pd.DataFrame, npt.NDArray[np.int32]]:
    """A row for each object (`pixels`, `row`, `col` of its centre), and the number of each pixel's object, from 1."""
    _, numbers, statistics_, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    table = pd.DataFrame({"pixels": statistics_[1:, cv2.CC_STAT_AREA], "row": centres[1:, 1], "col": centres[1:, 0]})
    return table, np.asarray(numbers)


def _boundary(mask: Mask) -> Mask:
    """Pixels of the mask that are within `BOUNDARY` pixels of others; the edge of the image is not a boundary."""
    kernel = np.ones((3, 3), np.uint8)
    inner = cv2.erode(mask.astype(np.uint8), kernel, iterations=BOUNDARY, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return mask & (np.asarray(inner) == 0)


def _block(number: int, row: int, col: int, side: int) -> str:
    return f"{number}:{row // side}:{col // side}"


def _ratio(part: npt.NDArray[np.float64], whole: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
