"""Sizes and bands that suit a scene."""

import numpy as np
import pytest

from darts_assets.bands import FEATURES, TCVIS, TERRAIN
from darts_assets.errors import SettingsError, TrainingError
from darts_assets.training.clip_choice import bands_with_data, size_for, suit
from darts_assets.training.clip_parameters import ClipParameters
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import Origin, write_sample

from .conftest import make_tile, outlines


@pytest.mark.parametrize(("side", "size"), [(10980, 1024), (3100, 512), (1500, 128), (251, 32), (40, 32)])
def test_the_size_gives_six_patches_along_a_side(side: int, size: int) -> None:
    assert size_for(side) == size


def test_bands_of_unused_layers_have_no_data() -> None:
    tile = make_tile()
    assert bands_with_data(tile) == list(FEATURES)
    for name in TERRAIN:
        tile[name][:] = np.nan
    for name in TCVIS:
        tile[name][:] = 0
    assert bands_with_data(tile) == ["red", "green", "blue", "nir", "ndvi"]


def test_given_values_stay_and_the_first_scene_of_a_set_decides(store) -> None:
    tile = make_tile()
    chosen, sentences = suit(tile, ClipParameters(), store, "a")
    assert (chosen.patch_size, chosen.overlap, chosen.bands) == (32, 0, list(FEATURES))
    assert sentences == ["patches of 32 pixels for a scene of 100 x 130", "13 bands"]
    given, sentences = suit(tile, ClipParameters(patch_size=50, bands=["red"], overlap=10), store, "a")
    assert (given.patch_size, given.overlap, given.bands, sentences) == (50, 10, ["red"], [])
    first = PatchParameters(patch_size=64, overlap=0, bands=["red", "nir"])
    write_sample(store.sample("a"), tile, outlines(), None, Origin("a", "Peel"), first, "sentinel2")
    second, sentences = suit(tile, ClipParameters(), store, "b")
    assert (second.patch_size, second.bands) == (64, ["red", "nir"])
    assert sentences == ["patches of 64 pixels with 2 bands, as those of a in the same set"]
    assert suit(tile, ClipParameters(), store, "a")[0].patch_size == 32, "its own sample is made again"


def test_what_cannot_be_is_named(store) -> None:
    with pytest.raises(SettingsError, match="overlap is 64, expected less than patch_size"):
        ClipParameters(patch_size=64, overlap=64)
    with pytest.raises(SettingsError, match="sloop"):
        ClipParameters(patch_size=64, bands=["sloop"])
    nothing = make_tile()[["quality_data_mask"]]
    with pytest.raises(TrainingError, match="no feature with data"):
        suit(nothing, ClipParameters(patch_size=64), store, "a")
