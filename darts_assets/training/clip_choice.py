"""Sizes and bands of the patches of scenes of any size, chosen from the data where they are not given."""

import numpy as np
import xarray as xr

from darts_assets.bands import FEATURES
from darts_assets.errors import TrainingError
from darts_assets.training.clip_parameters import ClipParameters
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import read_record
from darts_assets.training.set_store import TrainingSetStore

SIZES = (1024, 512, 256, 128, 64, 32)
"""Sides of patches that are tried, pixels."""

_LEAST_PATCHES = 6
"""Patches along the shorter side of a scene that the chosen size gives at least."""

_STEPS = 256  # pixels per axis that are inspected for data


def suit(
    tile: xr.Dataset, parameters: ClipParameters, store: TrainingSetStore, sample_id: str
) -> tuple[PatchParameters, list[str]]:
    """The parameters for a scene, and a sentence for each choice.

    Other samples of the set decide, since all must have the same size and bands; else the data of the scene.

    Args:
        tile: preprocessed tile, lazy; a few rows and columns of each band are read.
        parameters: what is given.
        store: the set.
        sample_id: id of the sample that is made, which does not count as another one.

    Raises:
        TrainingError: if no feature has data.
        SettingsError: if given and chosen values contradict each other.
    """
    size, bands, choices = parameters.patch_size, list(parameters.bands), []
    others = [name for name in store.sample_ids() if name != sample_id]
    if (size is None or not bands) and others:
        record = read_record(store.sample(others[0]))
        if record is not None:
            size, bands = size or int(record.config["patch_size"]), bands or list(record.config["bands"])
            choices.append(f"patches of {size} pixels with {len(bands)} bands, as those of {others[0]} in the same set")
    if size is None:
        size = size_for(min(tile.sizes["y"], tile.sizes["x"]))
        choices.append(f"patches of {size} pixels for a scene of {tile.sizes['y']} x {tile.sizes['x']}")
    if not bands:
        bands = bands_with_data(tile)
        without = [name for name in FEATURES if name not in bands]
        if not bands:
            raise TrainingError("the preprocessed tile has no feature with data")
        choices.append(f"{len(bands)} bands" + (f"; without data: {', '.join(without)}" if without else ""))
    return parameters.of(size, bands), choices


def size_for(side: int) -> int:
    """Side of patches for a scene whose shorter side is `side` pixels."""
    return next((size for size in SIZES if side // size >= _LEAST_PATCHES), SIZES[-1])


def bands_with_data(tile: xr.Dataset) -> list[str]:
    """The features of a tile that have data; an unused layer is NaN, or 0 in bands of integers."""
    steps = {axis: slice(None, None, max(1, tile.sizes[axis] // _STEPS)) for axis in ("y", "x")}
    named = [name for name in FEATURES if name in tile]
    values = {name: np.asarray(tile[name].isel(steps).values) for name in named}
    return [name for name, part in values.items() if (np.isfinite(part) if part.dtype.kind == "f" else part > 0).any()]
