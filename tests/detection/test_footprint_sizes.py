"""The sizes of known slumps: those of the real outlines."""

from pathlib import Path

import numpy as np
import pytest

from darts_assets.detection.footprint_sizes import OUTLINES, share_below
from darts_assets.geo.geodesic import geodesic_areas
from tests.benchmarks.mapping_unit import drawn_sizes, outlines


@pytest.mark.slow
def test_shares_are_those_of_the_outlines(shared: Path) -> None:
    tables = outlines(shared)
    areas = np.concatenate([geodesic_areas(table) for table in tables.values()])
    assert len(areas) == OUTLINES
    for area in (120, 300, 900, 2500, 3200, 15_000):
        assert share_below(area) == pytest.approx(np.mean(areas < area), abs=0.01)
    some = tables["ARTS"].iloc[:50]
    sizes = drawn_sizes(some, 10)
    np.testing.assert_allclose(sizes * 100, some.area, rtol=0.25)


def test_the_share_grows_with_the_area() -> None:
    shares = [share_below(area) for area in (0, 49, 50, 300, 3200, 1e5, 1e9)]
    assert shares[:2] == [0, 0]
    assert shares == sorted(shares)
    assert share_below(3200) == pytest.approx(0.2856)
