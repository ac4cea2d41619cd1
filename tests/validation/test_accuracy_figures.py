"""Figures against hand counts of known damage to real outlines, and against plain loops over all pairs."""

import math
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from shapely.affinity import translate

from darts_assets.geo.equal_area import EQUAL_AREA
from darts_assets.remote.s3_auth import S3Options
from darts_assets.validation.accuracy_figures import Accuracy, accuracy
from darts_assets.validation.accuracy_parameters import AccuracyParameters
from darts_assets.validation.outcomes import Comparison
from darts_assets.validation.reference_layouts import read_objects
from tests.validation.plain_accuracy import Plain

RULES = ["smaller 0.25", "any", "smaller 0.5", "iou 0.25", "iou 0.5"]
EMPTY_GROUND, BEYOND = 200_000, 500_000
"""Metres by which outlines are shifted to mapped ground without slumps, and off the mapped ground."""


@pytest.fixture(scope="module")
def runge(shared: Path) -> gpd.GeoDataFrame:
    """Outlines of September 2016 that touch no other one."""
    outlines = read_objects(str(shared / "data/arts_curated/Runge2022/East_Taymyr"), S3Options())
    outlines = outlines[outlines["start"] == "2016-09-09"].reset_index(drop=True)
    return apart(outlines)


@pytest.fixture(scope="module")
def arts(shared: Path) -> gpd.GeoDataFrame:
    return read_objects(str(shared / "data/arts_curated/ARTS_main_dataset_v.5.0.0.geojson"), S3Options())


def apart(outlines: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The outlines that lie at least 20 m from all others."""
    shapes = outlines.geometry.to_numpy()
    one, other = shapely.STRtree(shapes).query(shapes, predicate="dwithin", distance=20)
    return outlines.drop(index=np.unique(one[one != other])).reset_index(drop=True)


def moved(outlines: gpd.GeoDataFrame, x: float, y: float = 0.0) -> gpd.GeoDataFrame:
    return outlines.assign(
        geometry=[translate(shape, x, y) for shape in outlines.geometry], id=outlines["id"] + "-moved"
    )


def halves(outlines: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Each outline cut in two through the middle of its box."""
    parts = []
    for side in (0, 1):
        shapes = []
        for shape in outlines.geometry:
            west, south, east, north = shape.bounds
            middle = (west + east) / 2
            shapes.append(shape & shapely.box(*((west, south, middle, north), (middle, south, east, north))[side]))
        parts.append(outlines.assign(geometry=shapes, id=outlines["id"] + f"-half{side}"))
    return pd.concat(parts)


def pairwise_merged(outlines: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The first and second, the third and fourth, ... as one object."""
    first = outlines.iloc[::2].copy()
    first["geometry"] = [
        one | other for one, other in zip(outlines.geometry[::2], outlines.geometry[1::2], strict=True)
    ]
    return first


def ground(outlines: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The hull of outlines, and the same on empty ground."""
    hull = shapely.convex_hull(shapely.geometrycollections(outlines.geometry.to_numpy())).buffer(1000)
    shapes = [hull, translate(hull, EMPTY_GROUND)]
    dates = pd.Series([pd.NaT] * 2, dtype="datetime64[ms]")
    return gpd.GeoDataFrame(
        {"region": ["slumps", "none"], "start": dates, "end": dates}, geometry=shapes, crs=EQUAL_AREA
    )


def compared(
    ours: gpd.GeoDataFrame, reference: gpd.GeoDataFrame, extent: gpd.GeoDataFrame | None, **parameters: object
) -> Accuracy:
    return accuracy(
        Comparison(ours.reset_index(drop=True), reference, AccuracyParameters(rules=RULES, **parameters), extent)
    )


def test_known_damage_gives_the_figures_counted_by_hand(runge: gpd.GeoDataFrame) -> None:
    assert len(runge) >= 400
    names = ["same", "shifted", "split", "merged", "dropped", "spare", "other_year"]
    sizes = [100, 40, 30, 60, 50, 25, 20]
    ends = np.cumsum(sizes)
    parts = {name: runge.iloc[end - size : end] for name, size, end in zip(names, sizes, ends, strict=True)}
    other_year = parts["other_year"].assign(start=pd.Timestamp("2013-08-13"), end=pd.Timestamp("2013-08-13"))
    reference = pd.concat([*(parts[name] for name in names[:5]), other_year], ignore_index=True)
    ours = pd.concat(
        [
            parts["same"],
            moved(parts["shifted"], 1.0),
            halves(parts["split"]),
            pairwise_merged(parts["merged"]),
            moved(parts["spare"], EMPTY_GROUND),  # invented
            moved(parts["spare"].iloc[:10], BEYOND),  # where the reference has not looked
            parts["other_year"],
        ]
    )
    result = compared(ours, reference, ground(runge), years=[2016])
    total = result.total.iloc[0]
    assert total[["reference", "reference_hit", "misses", "split"]].tolist() == [280, 230, 50, 30]
    assert total[["ours", "ours_hit", "false_alarms", "merged"]].tolist() == [255, 230, 25, 30]
    assert total[["unmapped_ours", "other_date"]].tolist() == [10, 20]
    assert total["recall"] == pytest.approx(230 / 280)
    assert total["precision"] == pytest.approx(230 / 255)
    assert total["f1"] == pytest.approx(2 / (280 / 230 + 255 / 230))

    area = {name: part.area.sum() for name, part in parts.items()}
    ours_area = area["same"] + area["shifted"] + area["split"] + area["merged"] + area["spare"]
    assert total["area_ratio"] == pytest.approx(ours_area / reference.iloc[:280].area.sum(), rel=1e-6)
    whole = area["same"] + area["split"] + area["merged"]
    by_metre = shapely.area(
        shapely.intersection(parts["shifted"].geometry, moved(parts["shifted"], 1.0).geometry)
    ).sum()
    assert total["area_shared_ha"] == pytest.approx((whole + by_metre) / 1e4, rel=1e-6)

    rules = result.by_rule.set_index(["rule", "matching"])
    # Of the two halves of an outline, and of the two outlines of a merged one, only one has a partner.
    assert rules.loc[("smaller 0.25", "one"), ["reference_hit", "ours_hit"]].tolist() == [200, 200]
    assert rules.loc[("any", "many"), ["reference_hit", "ours_hit", "ours"]].tolist() == [230, 230, 255]
    regions = compared(ours, reference, ground(runge), years=[2016]).by_region.set_index("region")
    assert regions["false_alarms"].to_dict() == {"none": 25, "slumps": 0}
    assert regions.loc["none", "precision"] == 0
    assert math.isnan(regions.loc["none", "recall"])
    sizes_table = result.by_size.set_index("size_class")
    small = pd.concat([parts[name] for name in names[:5]]).area < 1000
    assert sizes_table.loc["below 1000 m2", "reference"] == small.sum()
    assert sizes_table[["reference", "ours", "misses"]].sum().tolist() == [280, 255, 50]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_damage_equals_plain_loops(arts: gpd.GeoDataFrame, seed: int) -> None:
    generator = np.random.default_rng(seed)
    reference = arts.iloc[np.sort(generator.choice(len(arts), 160, replace=False))].reset_index(drop=True)
    reference["start"], reference["end"] = pd.Timestamp("2020-07-01"), pd.Timestamp("2020-08-01")
    reference.loc[:24, ["start", "end"]] = pd.Timestamp("2017-07-01")
    reference.loc[25:34, "kind"] = "ignored"
    shapes = []
    for shape in reference.geometry:
        kind = generator.integers(6)
        size = math.sqrt(shape.area)
        if kind == 0:
            continue
        shift = translate(shape, *generator.uniform(-size, size, 2))
        damaged = [shape, shift, shape.buffer(size / 5), shape.buffer(-size / 10), shift.simplify(size / 3)][kind - 1]
        shapes += list(shapely.get_parts(damaged.buffer(0)))
    shapes = [shape for shape in shapes if shape.area > 10]
    ours = gpd.GeoDataFrame(
        {
            "id": [f"ours {number}" for number in range(len(shapes))],
            "start": pd.Timestamp("2020-07-20"), "end": pd.Timestamp("2020-07-20"), "kind": "positive", "source": "",
        },
        geometry=shapes, crs=EQUAL_AREA,
    )  # fmt: skip
    # Mapped ground that cuts some outlines.
    chosen = reference.geometry.iloc[generator.choice(160, 140, replace=False)]
    extent = gpd.GeoDataFrame(
        {"region": [""] * 140, "start": pd.NaT, "end": pd.NaT}, geometry=chosen.centroid.buffer(150).to_numpy(),
        crs=EQUAL_AREA,
    ).astype({"start": "datetime64[ms]", "end": "datetime64[ms]"})  # fmt: skip
    unseen = {name for name in reference["id"] if generator.random() < 0.1}
    comparison = Comparison(
        ours, reference, AccuracyParameters(rules=RULES, years=[2020]), extent,
        observed=lambda year, outlines: ~np.isin(
            [shape.wkb for shape in outlines], [s.wkb for s in reference.geometry[reference["id"].isin(unseen)]]
        ),
    )  # fmt: skip
    result = accuracy(comparison)

    positive = (reference["kind"] == "positive") & (reference["start"].dt.year == 2020)
    outlines = dict(zip(reference["id"], reference.geometry, strict=True))
    plain = Plain(
        dict(zip(ours["id"], ours.geometry, strict=True)),
        {name: outlines[name] for name in reference.loc[positive, "id"]},
        extent.union_all(),
        unseen,
        list(reference.geometry[reference["start"].dt.year == 2017]),
        list(reference.geometry[reference["kind"] == "ignored"]),
    )
    for row in result.by_rule.to_dict("records"):
        expected = plain.counts(row["rule"], one=row["matching"] == "one")
        assert {name: row[name] for name in expected} == expected, row
    total = result.total.iloc[0]
    assert 0 < total["reference_hit"] < total["reference"]
    assert total["other_date"] > 0
    assert total["on_ignored"] > 0
    for name, value in plain.areas(RULES[0]).items():
        share = total[name] if name in total else total[f"{name}_ha"] * 1e4
        assert share == pytest.approx(value, rel=1e-6), name


def test_without_an_extent_there_is_recall_but_no_precision(runge: gpd.GeoDataFrame) -> None:
    reference = runge.iloc[:100]
    invented = moved(runge.iloc[100:130], BEYOND)
    total = compared(pd.concat([reference.iloc[:80], invented]), reference, None).total.iloc[0]
    assert total["recall"] == 0.8
    assert total[["ours_hit", "unmapped_ours", "ours"]].tolist() == [80, 30, 0]
    assert total[["precision", "f1", "area_iou", "area_ratio", "area_ours_ha"]].isna().all()
    assert total["area_recall"] == pytest.approx(reference.area[:80].sum() / reference.area.sum())


def test_the_same_seed_gives_the_same_intervals(runge: gpd.GeoDataFrame) -> None:
    reference = runge.iloc[:300]
    ours = pd.concat([reference.iloc[::2], moved(reference.iloc[::5], EMPTY_GROUND)])
    first, again, other = (compared(ours, reference, ground(runge), block_km=2, seed=seed).total for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    row = first.iloc[0]
    assert row["recall_low"] < row["recall"] == 0.5 < row["recall_high"]
    assert row["precision_low"] < row["precision"] < row["precision_high"]
    assert row["area_iou_low"] < row["area_iou"] < row["area_iou_high"]
    assert row["recall_low"] != other.iloc[0]["recall_low"]


def test_a_perfect_comparison_has_wilsons_interval(runge: gpd.GeoDataFrame) -> None:
    reference = runge.iloc[:200]
    row = compared(reference, reference, ground(runge), block_km=2).total.iloc[0]
    assert row[["recall", "precision", "f1", "area_iou", "area_ratio", "matched_iou"]].tolist() == pytest.approx(
        [1] * 6
    )
    assert (row["recall_low"], row["recall_high"]) == (pytest.approx(0.98115, abs=1e-4), 1)
    few = compared(reference, reference, ground(runge), block_km=2000).total.iloc[0]
    assert few["blocks"] < 5
    assert math.isnan(few["recall_low"])
