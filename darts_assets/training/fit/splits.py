"""Split a dataset into training, validation and test patches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from darts_assets.errors import SettingsError
from darts_assets.training.fit.fit_parameters import SplitBy, SplitParameters

_COLUMNS: dict[SplitBy, str] = {"region": "region", "sample": "sample_id"}


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
    groups = _groups(samples, parameters.split_by)
    unknown = sorted(set(parameters.test) - set(groups))
    if unknown:
        known = ", ".join(sorted(set(groups)))
        raise SettingsError(f"the dataset has no {parameters.split_by} {', '.join(unknown)}; it has {known}")
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
            f"{parameters.folds} folds by {parameters.split_by} need at least as many groups; without the test part "
            f"the dataset has {len(sizes)}"
        )
    names = sorted(sizes.index)
    np.random.default_rng(parameters.seed).shuffle(names)
    names.sort(key=lambda name: -int(sizes[name]))
    filled, folds = [0] * parameters.folds, {}
    for name in names:
        folds[name] = filled.index(min(filled))
        filled[folds[name]] += int(sizes[name])
    return folds
