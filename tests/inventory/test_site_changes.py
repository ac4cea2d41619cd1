"""Changes of sites against the uncertainty of their areas, by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import shapely

from darts_assets.inventory.area_intervals import MOST_DEGREES
from darts_assets.inventory.site_changes import CHANGES, advances, with_changes

SQUARE = shapely.box(0, 0, 100, 100)
NORMAL = 1.95996


def site(year: int, mean: float, error: float = 0.02, event: str = "continued", **columns: object) -> dict[str, object]:
    first = pd.Timestamp("2022-07-01", tz="UTC") + pd.Timedelta(days=365.25) * (year - 2022)
    return {
        "slump_id": "a", "year": year, "event": event, "area_mean_ha": mean, "area_se_ha": error,
        "area_df": MOST_DEGREES, "first_date": first - pd.Timedelta(days=20),
        "last_date": first + pd.Timedelta(days=20), "geometry": SQUARE, **columns,
    }  # fmt: skip


def change(*sites: dict[str, object]) -> pd.DataFrame:
    return with_changes(pd.DataFrame(sites), 0.1)


def test_a_grown_site_has_a_rate_and_a_retreat() -> None:
    taller = shapely.box(0, 0, 100, 120)
    first, second = change(site(2020, 1.0, event="new"), site(2022, 1.2, geometry=taller)).itertuples()
    assert (first.change, math.isnan(first.rate_ha_per_year)) == ("", True)
    assert second.change == "grown"
    half = NORMAL * 0.02 * math.sqrt(2)
    rates = [second.rate_ha_per_year, second.rate_low_ha_per_year, second.rate_high_ha_per_year]
    assert rates == pytest.approx([0.1, (0.2 - half) / 2, (0.2 + half) / 2], abs=1e-4)
    # 2,000 m2 along 100 m in two years.
    assert second.retreat_m_per_year == pytest.approx(10, rel=1e-2)


@pytest.mark.parametrize(
    ("after", "error", "expected"),
    [(0.8, 0.02, "shrunk"), (1.01, 0.02, "stable"), (1.01, 0.1, "uncertain"), (1.05, 0.02, "uncertain")],
)
def test_other_changes_have_no_retreat(after: float, error: float, expected: str) -> None:
    second = change(site(2022, 1.0, error, "new"), site(2023, after, error)).iloc[1]
    assert second["change"] == expected
    assert second["rate_ha_per_year"] == pytest.approx(after - 1)
    assert math.isnan(second["retreat_m_per_year"])


def test_a_year_without_an_interval_is_uncertain() -> None:
    unknown = site(2022, np.nan, np.nan, "new", area_df=np.nan)
    second = change(unknown, site(2023, 1.0)).iloc[1]
    assert second["change"] == "uncertain"
    assert math.isnan(second["rate_ha_per_year"])


def test_splits_mergers_and_other_slumps_are_not_compared_and_rows_keep_their_order() -> None:
    rows = [
        site(2023, 2.0, event="split"), site(2022, 1.0, event="new"),
        site(2023, 2.0, slump_id="b", event="new"), site(2024, 3.0), site(2021, 1.0, slump_id="b", event="merged"),
    ]  # fmt: skip
    made = change(*rows)
    assert made["change"].tolist() == ["", "", "", "grown", ""]
    assert made["year"].tolist() == [2023, 2022, 2023, 2024, 2021]
    assert change(rows[1])[list(CHANGES[1:])].isna().all(axis=None)


def advance(before: shapely.Geometry, after: shapely.Geometry) -> float:
    (distance,) = advances(np.array([before], dtype=object), np.array([after], dtype=object))
    return float(distance)


def test_outlines_advance_each_by_itself() -> None:
    before = np.array([SQUARE, SQUARE, shapely.box(0, 0, 1000, 1000)], dtype=object)
    after = np.array([shapely.box(0, 0, 120, 100), SQUARE, shapely.box(0, 0, 1015, 1000)], dtype=object)
    assert advances(before, after) == pytest.approx([20, math.nan, 15], rel=2e-3, nan_ok=True)
    assert advances(before[:0], after[:0]).shape == (0,)


def test_an_outline_advances_over_stairs_as_over_a_straight_edge() -> None:
    def triangle(steps: int) -> shapely.Geometry:
        pixels = [shapely.box(10 * i, 10 * j, 10 * i + 10, 10 * j + 10) for i in range(steps) for j in range(steps - i)]
        return shapely.union_all(pixels)

    # 201 and 202 pixels more, along a diagonal of 200 steps.
    assert advance(triangle(200), triangle(202)) == pytest.approx((201 + 202) * 100 / (2000 * math.sqrt(2)), rel=0.01)
    # Straight edges that move by 15 m: exact but for the corners.
    assert advance(shapely.box(0, 0, 1000, 1000), shapely.box(0, 0, 1015, 1000)) == pytest.approx(15, rel=1e-3)


def test_no_advance() -> None:
    assert math.isnan(advance(SQUARE, SQUARE))
    assert math.isnan(advance(SQUARE, shapely.box(200, 0, 300, 100)))
