"""Split a dataset into training, validation and test patches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from darts_assets.errors import SettingsError

SplitBy = Literal["region", "sample", "random"]
_COLUMNS: dict[SplitBy, str] = {"region": "region", "sample": "sample_id"}


@dataclass(frozen=True, slots=True)
class SplitParameters:
    """How a set is divided.

    Attributes:
        by: what stays together: the patches of a region, of a sample (an image), or nothing. Neighbouring patches
            share pixels, so `random` flatters a model.
        folds: into how many parts; one of them validates.
        fold: which one, 0 .. folds - 1.
        test: regions or samples (as `by` says) that are kept out of all folds, for the report.
        seed: of the order in which groups of equal size are dealt.

    Raises:
        SettingsError: for a value outside its range.
    """

    by: SplitBy = "region"
    folds: int = 5
    fold: int = 0
    test: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in get_args(SplitBy):
            raise SettingsError(f"split by {self.by!r}, expected one of {', '.join(get_args(SplitBy))}")
        if self.folds < 2 or not 0 <= self.fold < self.folds:
            raise SettingsError(f"fold {self.fold} of {self.folds}: expected at least 2 folds, counted from 0")
        if self.test and self.by == "random":
            raise SettingsError("a test part is named by regions or samples: split by one of them")


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint, sorted row numbers of a dataset."""

    training: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def split(samples: pd.DataFrame, parameters: SplitParameters) -> Split:
    """Split a dataset.

    Groups are assigned by size, largest first, each to the currently smallest fold. Folds are about equal in size and
    the same for every `fold`.

    Raises:
        SettingsError: if there are fewer groups than folds, if the dataset lacks a group of the test part, or if no
            training patches remain.
    """
    groups = _groups(samples, parameters.by)
    unknown = sorted(set(parameters.test) - set(groups))
    if unknown:
        known = ", ".join(sorted(set(groups)))
        raise SettingsError(f"the dataset has no {parameters.by} {', '.join(unknown)}; it has {known}")
    remaining = [name for name in groups if name not in parameters.test]
    folds = _assign(remaining, parameters)
    parts: dict[str, list[int]] = {"training": [], "validation": [], "test": []}
    for row, name in enumerate(groups):
        if name in parameters.test:
            parts["test"].append(row)
        else:
            parts["validation" if folds[name] == parameters.fold else "training"].append(row)
    return Split(tuple(parts["training"]), tuple(parts["validation"]), tuple(parts["test"]))


def _groups(samples: pd.DataFrame, by: SplitBy) -> list[str]:
    if by == "random":
        return [str(row) for row in range(len(samples))]
    return [str(value) for value in samples[_COLUMNS[by]]]


def _assign(groups: Sequence[str], parameters: SplitParameters) -> dict[str, int]:
    """The fold of each group."""
    sizes = pd.Series(groups, dtype="object").value_counts()
    if len(sizes) < parameters.folds:
        raise SettingsError(
            f"{parameters.folds} folds by {parameters.by} need at least as many groups; without the test part the "
            f"dataset has {len(sizes)}"
        )
    names = sorted(sizes.index)
    np.random.default_rng(parameters.seed).shuffle(names)
    names.sort(key=lambda name: -int(sizes[name]))
    filled, folds = [0] * parameters.folds, {}
    for name in names:
        folds[name] = filled.index(min(filled))
        filled[folds[name]] += int(sizes[name])
    return folds
