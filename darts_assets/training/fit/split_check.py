"""The proof that no split of a dataset has the same ground, image or pixels in training and held-out parts."""

from dataclasses import dataclass
from typing import get_args

import pandas as pd

from darts_assets.errors import SettingsError
from darts_assets.training.fit.splits import folds_of
from darts_assets.training.leakage import leaks
from darts_assets.training.split_parameters import SplitBy, SplitParameters


@dataclass(frozen=True)
class SplitProof:
    """A way to split a dataset.

    Attributes:
        split_by: the parameter.
        unit: what stays in one part; "" if the dataset cannot be split so.
        folds: number of folds.
        groups: number of groups.
        left_out: largest number of patches that a fold leaves out.
        leaks: one sentence for each leak of a fold.
        note: choices, or the reason why the dataset cannot be split so.
    """

    split_by: SplitBy
    unit: str
    folds: int
    groups: int
    left_out: int
    leaks: tuple[str, ...]
    note: str


def prove_splits(samples: pd.DataFrame, parameters: SplitParameters) -> list[SplitProof]:
    """Compare the parts of every fold of every kind of split, by outlines, images and pixels.

    Args:
        samples: rows of the dataset, see `split`.
        parameters: distance, size of blocks and seed; `folds` None: as many as the dataset allows.

    Raises:
        TrainingError: if different images have patches with the same pixels.
    """
    proofs = []
    for split_by in get_args(SplitBy):
        try:
            folds = folds_of(samples, parameters.replace(split_by=split_by, test=[]))
            parts = [folds.split(fold) for fold in range(folds.count)]
        except SettingsError as error:
            proofs.append(SplitProof(split_by, "", 0, 0, 0, (), str(error)))
            continue
        problems = [
            f"fold {number}: {problem}"
            for number, part in enumerate(parts)
            for problem in leaks(samples, part.training, part.validation, whole_images=folds.whole_images)
        ]
        left_out = max(len(part.left_out) for part in parts)
        proofs.append(
            SplitProof(
                split_by, folds.unit, folds.count, len(set(folds.groups)), left_out, tuple(problems),
                "; ".join(folds.choices),
            )
        )  # fmt: skip
    return proofs
