"""Split a dataset into training, validation and test patches.

`folds_of` defines the folds of a dataset once: a cross-validation takes its splits one by one, a training one of them.
Images whose patches share ground or are neighbours are in one group, and a group is in one fold. `block` divides the
ground of single images instead; patches of the training part that share ground with held-out patches are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from darts_assets.errors import SettingsError, TrainingError
from darts_assets.sources.stac.scene_ids import listed
from darts_assets.training.leakage import Outlines, duplicates, ground_of, joined, near_pairs, patch_side
from darts_assets.training.split_parameters import MOST_FOLDS, SplitParameters, SplitUnit

_COLUMNS: dict[str, str] = {"region": "region", "sample": "sample_id", "scene": "scene_id", "random": "sample_id"}
_TEST = -1
_LEAST_GROUPS = 3  # that `auto` needs to divide by region or sample
_BLOCKS_PER_FOLD = 2
_PLURALS = {"region": "regions", "sample": "images", "scene": "scenes", "random": "images", "block": "blocks"}


@dataclass(frozen=True, slots=True)
class Split:
    """Disjoint, sorted row numbers of a dataset.

    Attributes:
        training: rows to train on.
        validation: rows of the fold that validates.
        test: rows for the report only.
        left_out: rows in no part, because they share ground with held-out rows.
    """

    training: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    left_out: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Folds:
    """The folds of a dataset.

    Attributes:
        unit: what stays in one part.
        count: number of folds.
        groups: name of the group of each row.
        fold: fold of each row, -1 for the test part; int64 (rows).
        choices: one sentence for each choice that was made from the data.
        near: pairs of rows that must not be in the training and validation part; int64 (2, pairs).
    """

    unit: SplitUnit
    count: int
    groups: tuple[str, ...]
    fold: npt.NDArray[np.int64]
    choices: tuple[str, ...]
    near: npt.NDArray[np.int64]

    @property
    def whole_images(self) -> bool:
        """Whether all patches of an image are in one part."""
        return self.unit != "block"

    def split(self, fold: int) -> Split:
        """The parts if a fold validates.

        Raises:
            SettingsError: if there is no such fold, or no training patches remain.
        """
        if fold >= self.count:
            raise SettingsError(f"fold {fold}: the dataset has {self.count} folds, numbered from 0")
        validation, test = self.fold == fold, self.fold == _TEST
        others = ~validation & ~test
        close = np.zeros(len(self.fold), dtype=bool)
        close[self.near[0][validation[self.near[1]]]] = True
        parts = (others & ~close, validation, test, others & close)
        if not parts[0].any():
            raise SettingsError(
                f"fold {fold} of {self.count} by {self.unit}: no patches remain for training; set fewer folds, smaller "
                "blocks or smaller patches"
            )
        return Split(*(tuple(np.flatnonzero(part).tolist()) for part in parts))

    @property
    def usable(self) -> bool:
        """Whether training patches remain in every fold."""
        try:
            return all(self.split(fold).training for fold in range(self.count))
        except SettingsError:
            return False


def split(samples: pd.DataFrame, parameters: SplitParameters, *, as_recorded_before: bool = False) -> Split:
    """The parts of a dataset.

    Args:
        samples: rows of the dataset with `sample_id`, `region` and, where known, `scene_id`, `geometry` (outline in
            EPSG:4326, or its WKB), `content` (hash of the inputs) and `empty`.
        parameters: how it is divided.
        as_recorded_before: repeat a split of a checkpoint that was made before groups were joined.

    Raises:
        SettingsError: see `folds_of`.
        TrainingError: see `folds_of`.
    """
    if as_recorded_before:
        return _former_split(samples, parameters)
    return folds_of(samples, parameters).split(parameters.fold)


def folds_of(samples: pd.DataFrame, parameters: SplitParameters) -> Folds:
    """The folds of a dataset, the same for every `fold`.

    Groups are assigned by their share of patches with slumps and of all patches, largest first (`random`: in random
    order), each to the currently smallest fold.

    Args:
        samples: see `split`.
        parameters: how the dataset is divided; `fold` is ignored.

    Raises:
        SettingsError: if there are fewer groups than folds, if the dataset lacks a group of the test part, or if the
            split needs a column that the dataset lacks.
        TrainingError: if different images have patches with the same pixels.
    """
    if copies := duplicates(samples):
        raise TrainingError(
            f"the same pixels would be in training and validation: {'; '.join(copies[:5])}. Leave out one image of "
            "each pair (`samples` of training/dataset)"
        )
    ground = ground_of(samples)
    for unit in _candidates(parameters):
        try:
            return _folds(samples, ground, unit, parameters)
        except _TooFewGroupsError:
            continue
    return _folds(samples, ground, _last_resort(samples, ground, parameters), parameters, least=2)


class _TooFewGroupsError(Exception):
    """The next unit has to be tried."""


def _candidates(parameters: SplitParameters) -> tuple[SplitUnit, ...]:
    return ("region", "sample") if parameters.split_by == "auto" else ()


def _last_resort(samples: pd.DataFrame, ground: Outlines | None, parameters: SplitParameters) -> SplitUnit:
    if parameters.split_by != "auto":
        return parameters.split_by
    if ground is not None:
        return "block"
    return "region" if samples["region"].nunique() > 1 else "sample"


def _folds(
    samples: pd.DataFrame, ground: Outlines | None, unit: SplitUnit, parameters: SplitParameters, least: int = 0
) -> Folds:
    choices: list[str] = []
    units = _units(samples, ground, unit, parameters, choices)
    groups, tested = _groups(units, ground, unit, parameters, choices)
    names = sorted(set(groups) - tested)
    wanted = parameters.folds or min(MOST_FOLDS, len(names))
    if not least and len(names) < (parameters.folds or _LEAST_GROUPS):
        raise _TooFewGroupsError
    if len(names) < max(wanted, 2):
        raise SettingsError(
            f"{max(wanted, 2)} folds by {unit} need at least as many groups; without the test part the dataset has "
            f"{len(names)}" + ("; add images, or cut smaller patches" if parameters.split_by == "auto" else "")
        )
    if parameters.split_by == "auto":
        choices.insert(0, _why(samples, unit))
    near = np.empty((2, 0), dtype=np.int64)
    if unit == "block" and ground is not None:
        near = np.stack(near_pairs(ground, ground, parameters.distance or 0.0))

    def dealt(count: int) -> Folds:
        folds = _deal(samples, groups, names, count, unit, parameters.seed)
        fold = np.array([_TEST if name in tested else folds[name] for name in groups], dtype=np.int64)
        return Folds(unit, count, tuple(groups), fold, tuple(choices), near)

    result = dealt(wanted)
    if parameters.folds is not None:
        return result
    while not result.usable and result.count > 2:
        result = dealt(result.count - 1)
    return replace(result, choices=(*choices, f"{result.count} folds of {len(names)} groups of {_PLURALS[unit]}"))


def _why(samples: pd.DataFrame, unit: SplitUnit) -> str:
    regions, images = samples["region"].nunique(), samples["sample_id"].nunique()
    if unit == "region":
        return f"split by region: the set has {regions} regions"
    few = f"the set has {regions} {'region' if regions == 1 else 'regions'}"
    if unit == "sample":
        return f"split by sample (image): {few}, too few to divide it by region"
    return f"split by block of ground: {few} and {images} {'image' if images == 1 else 'images'}, too few to divide it"


def _units(
    samples: pd.DataFrame, ground: Outlines | None, unit: SplitUnit, parameters: SplitParameters, choices: list[str]
) -> list[str]:
    """The unit of each row."""
    if unit == "block":
        if ground is None:
            raise SettingsError("split_by block needs the outlines of patches, which the dataset lacks")
        return _blocks(ground, parameters, choices)
    column = _COLUMNS[unit]
    if column not in samples:
        raise SettingsError(f"split_by {unit} needs the column {column}, which the dataset lacks")
    values = samples[column].astype(str)
    # Planet images are scenes themselves.
    return list(values.where(values != "", samples["sample_id"].astype(str)))


def _blocks(ground: Outlines, parameters: SplitParameters, choices: list[str]) -> list[str]:
    """The square of ground in which the centre of each patch lies."""
    centres = _north_up(shapely.get_coordinates(shapely.centroid(ground)))
    corner, extent = centres.min(axis=0), float(np.ptp(centres, axis=0).max())
    size = parameters.block_size
    if size is None:
        least = _BLOCKS_PER_FOLD * (parameters.folds or MOST_FOLDS)
        size, smallest = max(extent, 1.0) * 1.001, patch_side(ground)
        while size > smallest and len(np.unique((centres - corner) // size, axis=0)) < least:
            size *= 0.9
        choices.append(f"blocks of {size:.0f} m from the extent of the set ({extent:.0f} m)")
    return [f"{int(row)}/{int(col)}" for col, row in (centres - corner) // size]


def _north_up(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points of the polar projection, turned so that north is up in their middle, as in images."""
    east, north = points.mean(axis=0)
    angle = np.pi / 2 + np.arctan2(north, east)
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, -sin], [sin, cos]])


def _groups(
    units: Sequence[str], ground: Outlines | None, unit: SplitUnit, parameters: SplitParameters, choices: list[str]
) -> tuple[list[str], set[str]]:
    """The group of each row, and the groups of the test part."""
    unknown = sorted(set(parameters.test) - set(units))
    if unknown:
        known = ", ".join(sorted(set(units)))
        raise SettingsError(f"the dataset has no {unit} {', '.join(unknown)}; it has {known}")
    if unit == "block" or ground is None:
        return list(units), set(parameters.test)
    distance = patch_side(ground) if parameters.distance is None else parameters.distance
    group = joined(units, ground, distance)
    together = sorted({name for unit_, name in group.items() if name != unit_})
    if together:
        choices.append(
            f"{_PLURALS[unit]} with patches within {distance:.0f} m of each other stay together: {listed(together)}"
        )
    return [group[name] for name in units], {group[name] for name in parameters.test}


def _deal(
    samples: pd.DataFrame, groups: Sequence[str], names: Sequence[str], count: int, unit: SplitUnit, seed: int
) -> dict[str, int]:
    """The fold of each group outside the test part."""
    positive = ~samples["empty"].to_numpy(dtype=bool) if "empty" in samples else np.zeros(len(samples), dtype=bool)
    table = pd.DataFrame({"group": groups, "patches": 1, "positive": positive.astype(int)})
    sizes = table[table["group"].isin(set(names))].groupby("group").sum()
    load = (sizes / sizes.sum().clip(lower=1)).sum(axis=1)
    order = list(names)
    np.random.default_rng(seed).shuffle(order)
    if unit != "random":
        order.sort(key=lambda name: -float(load[name]))
    filled, folds = [0.0] * count, {}
    for name in order:
        folds[name] = filled.index(min(filled))
        filled[folds[name]] += float(load[name])
    return folds


def _former_split(samples: pd.DataFrame, parameters: SplitParameters) -> Split:
    """A split by the rules of former releases, which recorded its parameters in checkpoints."""
    by, count = parameters.split_by, parameters.folds or MOST_FOLDS
    groups = [str(row) for row in range(len(samples))] if by == "random" else list(samples[_COLUMNS[by]].astype(str))
    sizes = pd.Series(groups, dtype="object").value_counts().drop(list(parameters.test), errors="ignore")
    names = sorted(sizes.index)
    np.random.default_rng(parameters.seed).shuffle(names)
    names.sort(key=lambda name: -int(sizes[name]))
    filled, folds = [0] * count, dict.fromkeys(parameters.test, _TEST)
    for name in names:
        folds[name] = filled.index(min(filled))
        filled[folds[name]] += int(sizes[name])
    fold = np.array([folds[name] for name in groups], dtype=np.int64)
    near = np.empty((2, 0), dtype=np.int64)
    return Folds("sample", count, tuple(groups), fold, (), near).split(parameters.fold)
