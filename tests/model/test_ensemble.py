from dataclasses import replace

import pytest

from darts_assets.bands import FEATURES
from darts_assets.errors import CheckpointError
from darts_assets.model import CheckpointHeader, required_bands, terrain_convention
from darts_assets.model.ensemble import check_ensemble


def test_required_bands_are_the_union_in_training_order(small: CheckpointHeader, other: CheckpointHeader) -> None:
    assert required_bands([other, small]) == (*FEATURES[:5], "slope", "tc_wetness")
    assert required_bands([replace(small, bands=("dem", "swir16", "red"))]) == ("red", "swir16", "dem")


def test_terrain_convention(small: CheckpointHeader, other: CheckpointHeader) -> None:
    silent = replace(small, name="silent", terrain=None)
    assert terrain_convention([silent]) == "darts-2025"
    assert terrain_convention([silent, other]) == "darts-2025"
    assert terrain_convention([replace(small, terrain="physical")]) == "physical"
    with pytest.raises(CheckpointError, match="silent darts-2025, other physical"):
        terrain_convention([silent, replace(other, terrain="physical")])


def test_what_is_no_ensemble(small: CheckpointHeader) -> None:
    with pytest.raises(CheckpointError, match="at least one"):
        check_ensemble([])
    with pytest.raises(CheckpointError, match="same name: small, small"):
        check_ensemble([small, small])
