import pandas as pd
import pytest

from darts_assets.errors import SettingsError
from darts_assets.training.fit.fit_parameters import SplitBy, SplitParameters
from darts_assets.training.fit.splits import Split, split

SIZES = {"Banks": 40, "Peel": 22, "Gydan": 20, "Yamal": 11, "Novaya": 7}
SAMPLES = pd.DataFrame(
    [
        {"sample_id": f"{region}-{number % 4}", "region": region}
        for number in range(40)
        for region, size in SIZES.items()
        if number < size
    ]
)


def folds(by: SplitBy, **more: object) -> list[Split]:
    return [split(SAMPLES, SplitParameters(split_by=by, folds=3, fold=fold, **more)) for fold in range(3)]  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["region", "sample", "random"])
def test_every_patch_validates_once_and_trains_otherwise(by: SplitBy) -> None:
    parts = folds(by)
    assert sorted(row for part in parts for row in part.validation) == list(range(len(SAMPLES)))
    for part in parts:
        assert sorted(part.training + part.validation) == list(range(len(SAMPLES)))
        assert 25 <= len(part.validation) <= 42


@pytest.mark.parametrize(("by", "column"), [("region", "region"), ("sample", "sample_id")])
def test_groups_stay_together(by: SplitBy, column: str) -> None:
    for part in folds(by):
        assert not set(SAMPLES[column].iloc[list(part.training)]) & set(SAMPLES[column].iloc[list(part.validation)])


def test_regions_are_dealt_evenly_and_the_largest_first() -> None:
    sizes = sorted(len(part.validation) for part in folds("region"))
    assert sizes == [29, 31, 40]


def test_the_test_part_is_in_no_fold() -> None:
    for part in folds("region", test=("Peel",)):
        assert set(SAMPLES["region"].iloc[list(part.test)]) == {"Peel"}
        assert len(part.test) == 22
        assert not set(part.test) & {*part.training, *part.validation}


def test_the_seed_deals_groups_of_equal_size() -> None:
    drawn = {split(SAMPLES, SplitParameters(split_by="random", seed=seed)).validation for seed in range(4)}
    assert len(drawn) == 4
    assert split(SAMPLES, SplitParameters(split_by="random")) == split(SAMPLES, SplitParameters(split_by="random"))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"split_by": "region", "folds": 6}, "6 folds by region need at least as many groups; .* has 5"),
        ({"split_by": "region", "folds": 5, "test": ("Peel",)}, "without the test part the dataset has 4"),
        ({"split_by": "sample", "test": ("Peel-9",)}, "no sample Peel-9; it has Banks-0"),
        ({"split_by": "random", "test": ("3",)}, "split_by is random: set it to region or sample"),
        ({"fold": 5}, "fold 5 of 5"),
        ({"folds": 1}, "folds is 1, expected greater than or equal to 2"),
        ({"split_by": "country"}, "split_by is 'country', expected 'region', 'sample' or 'random'"),
    ],
)
def test_what_cannot_be_divided(parameters: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        split(SAMPLES, SplitParameters(**parameters))  # type: ignore[arg-type]
