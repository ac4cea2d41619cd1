import geopandas as gpd
import pandas as pd
import pytest
import shapely

from darts_assets.errors import SettingsError, TrainingError
from darts_assets.training.fit.splits import Split, folds_of, split
from darts_assets.training.leakage import leaks
from darts_assets.training.split_parameters import SplitBy, SplitParameters

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


def clip(side: int = 320, patches: int = 12, overlap: int = 0, sample: str = "peel", **columns: object) -> pd.DataFrame:
    """The patches of one image, in rows, with outlines on the ground."""
    step = side - overlap
    boxes = [
        shapely.box(x, y, x + side, y + side)
        for y in range(0, patches * step, step)
        for x in range(0, patches * step, step)
    ]
    shift = float(columns.pop("shift", 0))  # type: ignore[arg-type]
    outlines = gpd.GeoSeries(boxes, crs="EPSG:32608").translate(500_000 + shift, 7_400_000).to_crs("EPSG:4326")
    rows = {
        "sample_id": sample,
        "region": "none",
        "geometry": outlines,
        "empty": [n % 7 > 0 for n in range(len(boxes))],
    }
    return pd.DataFrame({**rows, **columns})


@pytest.mark.parametrize("by", ["region", "sample", "random"])
def test_every_patch_validates_once_and_trains_otherwise(by: SplitBy) -> None:
    parts = folds(by)
    assert sorted(row for part in parts for row in part.validation) == list(range(len(SAMPLES)))
    for part in parts:
        assert sorted(part.training + part.validation) == list(range(len(SAMPLES)))
        assert 25 <= len(part.validation) <= 42


@pytest.mark.parametrize(("by", "column"), [("region", "region"), ("sample", "sample_id"), ("random", "sample_id")])
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


def test_positive_patches_are_dealt_evenly() -> None:
    rows = [{"sample_id": f"{n}", "region": "none", "empty": n >= 4} for n in range(20)]
    made = folds_of(pd.DataFrame(rows), SplitParameters(folds=4))
    assert sorted(made.fold[:4]) == [0, 1, 2, 3]
    assert made.unit == "sample"


def test_the_default_is_chosen_from_the_data_with_a_sentence() -> None:
    by_region = folds_of(SAMPLES, SplitParameters())
    assert (by_region.unit, by_region.count) == ("region", 5)
    assert by_region.choices == ("split by region: the set has 5 regions", "5 folds of 5 groups of regions")
    by_sample = folds_of(SAMPLES.assign(region="none"), SplitParameters())
    assert (by_sample.unit, by_sample.count) == ("sample", 5)
    assert by_sample.choices[0] == "split by sample (image): the set has 1 region, too few to divide it by region"
    by_block = folds_of(clip(), SplitParameters())
    assert (by_block.unit, by_block.count) == ("block", 5)
    assert "1 region and 1 image, too few to divide it" in by_block.choices[0]
    assert by_block.choices[1].startswith("blocks of 1")
    assert by_block.choices[2].startswith("5 folds of ")


@pytest.mark.parametrize("overlap", [0, 160])
def test_blocks_divide_one_image_and_no_ground_is_on_both_sides(overlap: int) -> None:
    rows = clip(overlap=overlap)
    made = folds_of(rows, SplitParameters(split_by="block"))
    ground = gpd.GeoSeries(rows["geometry"], crs="EPSG:4326").to_crs("EPSG:32608")
    validated = []
    for fold in range(made.count):
        parts = made.split(fold)
        validated += parts.validation
        assert sorted(parts.training + parts.validation + parts.left_out) == list(range(144))
        shared = ground.iloc[list(parts.training)].union_all() & ground.iloc[list(parts.validation)].union_all()
        assert shared.area < 0.001 * 320**2
        assert bool(parts.left_out) == (overlap > 0)
        assert leaks(rows, parts.training, parts.validation, whole_images=False) == []
    assert sorted(validated) == list(range(144))


def test_a_distance_keeps_training_away_from_validation() -> None:
    rows = clip()
    parts = split(rows, SplitParameters(split_by="block", distance=500, block_size=1000))
    ground = gpd.GeoSeries(rows["geometry"], crs="EPSG:4326").to_crs("EPSG:32608")
    gap = ground.iloc[list(parts.training)].union_all().distance(ground.iloc[list(parts.validation)].union_all())
    assert 450 < gap < 1000


def test_a_clip_of_a_few_patches_gets_as_many_folds_as_it_allows() -> None:
    made = folds_of(clip(patches=2), SplitParameters())
    assert (made.unit, made.count) == ("block", 4)
    with pytest.raises(SettingsError, match="2 folds by block need at least as many groups"):
        folds_of(clip(patches=1), SplitParameters())


def test_images_that_share_ground_or_are_neighbours_stay_together() -> None:
    width = 12 * 320
    shifts = {"a": 0, "a-again": 100, "next": width + 200, "far": 20_000, "farther": 40_000}
    rows = pd.concat([clip(sample=name, shift=shift) for name, shift in shifts.items()], ignore_index=True)
    made = folds_of(rows, SplitParameters())
    assert (made.unit, made.count) == ("sample", 3)
    assert set(made.groups) == {"a + a-again + next", "far", "farther"}
    assert any("within 32" in choice and "'a + a-again + next'" in choice for choice in made.choices)
    exact = folds_of(rows, SplitParameters(split_by="sample", distance=0))
    assert set(exact.groups) == {"a + a-again", "next", "far", "farther"}
    for fold in range(made.count):
        parts = made.split(fold)
        assert leaks(rows, parts.training, parts.validation, whole_images=True) == []
    with pytest.raises(SettingsError, match=r"4 folds by sample need .* has 3"):
        folds_of(rows, SplitParameters(split_by="sample", folds=4))
    tested = split(rows, SplitParameters(split_by="sample", test=["a"]))
    assert set(rows["sample_id"].iloc[list(tested.test)]) == {"a", "a-again", "next"}


def test_scenes_are_a_unit() -> None:
    rows = SAMPLES.assign(scene_id=[name[:3] for name in SAMPLES["sample_id"]])
    made = folds_of(rows, SplitParameters(split_by="scene"))
    assert set(made.groups) == {"Ban", "Pee", "Gyd", "Yam", "Nov"}
    with pytest.raises(SettingsError, match="needs the column scene_id"):
        folds_of(SAMPLES, SplitParameters(split_by="scene"))


def test_copies_of_patches_are_refused() -> None:
    rows = pd.concat([clip(sample="a"), clip(sample="b", shift=50_000)], ignore_index=True)
    rows = rows.assign(content=[*range(144), 0, *range(1001, 1144)])
    with pytest.raises(TrainingError, match="a and b have 1 patches with the same pixels"):
        split(rows, SplitParameters())


def test_the_leaks_of_a_split_are_listed() -> None:
    rows = clip().assign(content=[0, *range(143)])
    assert leaks(rows, [0, 1, 2], [3, 4], whole_images=True) == ["images in both parts: 'peel'"]
    assert leaks(rows, [0], [1], whole_images=False) == [
        "1 held-out patches have the same pixels as a patch of the training part"
    ]
    overlapping = clip(overlap=10)
    assert leaks(overlapping, [0, 1, 2], [3, 50], whole_images=False) == [
        "1 held-out patches share ground with the training part"
    ]


def test_splits_of_earlier_checkpoints_are_repeated() -> None:
    former = split(SAMPLES, SplitParameters(split_by="random", folds=3), as_recorded_before=True)
    assert len(former.validation) == 34
    assert former.validation[:8] == (3, 6, 7, 9, 11, 13, 18, 22)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"split_by": "region", "folds": 6}, "6 folds by region need at least as many groups; .* has 5"),
        ({"split_by": "region", "folds": 5, "test": ("Peel",)}, "without the test part the dataset has 4"),
        ({"split_by": "sample", "test": ("Peel-9",)}, "no sample Peel-9; it has Banks-0"),
        ({"split_by": "random", "test": ("3",)}, "split_by is random: set it to region, sample or scene"),
        ({"split_by": "block"}, "block needs the outlines of patches"),
        ({"fold": 5}, "fold 5: the dataset has 5 folds"),
        ({"folds": 4, "fold": 4}, "fold 4 of 4"),
        ({"folds": 1}, "folds is 1, expected greater than or equal to 2"),
        ({"split_by": "country"}, "split_by is 'country', expected 'auto', 'region'"),
    ],
)
def test_what_cannot_be_divided(parameters: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        split(SAMPLES, SplitParameters(**parameters))  # type: ignore[arg-type]
