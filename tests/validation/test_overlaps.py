"""Pairs, one-to-one assignments, and areas that add up."""

import numpy as np
import pytest
import shapely

from darts_assets.validation.overlaps import area_within, one_to_one, own_parts, pairs_of
from tests.validation.outlines import square


def shapes(*squares: shapely.Polygon) -> np.ndarray:
    return np.array(squares, dtype=object)


def test_pairs_share_at_least_a_square_metre() -> None:
    pairs = pairs_of(shapes(square(0), square(99.5, 0, 1), square(500)), shapes(square(50), square(100), square(99)))
    assert list(zip(pairs.one, pairs.other, strict=True)) == [(0, 0), (0, 2), (1, 0), (1, 2)]
    assert pairs.shared == pytest.approx([5000, 100, 1, 1])
    assert pairs.smaller == pytest.approx([0.5, 0.01, 1, 1])
    assert pairs.iou == pytest.approx([1 / 3, 100 / 19_900, 1e-4, 1e-4])


def test_the_best_pairs_are_assigned_first() -> None:
    """The first of ours is better for B than for A, and gets it; then A has only the second."""
    ours, theirs = shapes(square(40), square(-60)), shapes(square(0), square(50))
    pairs = pairs_of(ours, theirs)
    chosen = pairs.where(one_to_one(pairs))
    assert list(zip(chosen.one, chosen.other, strict=True)) == [(0, 1), (1, 0)]


def test_own_parts_add_up_to_the_union() -> None:
    generator = np.random.default_rng(3)
    several = shapes(*(square(*generator.uniform(0, 500, 2), generator.uniform(50, 200)) for _ in range(40)))
    own = own_parts(several)
    assert shapely.area(own).sum() == pytest.approx(shapely.union_all(several).area)
    assert own[0].equals(several[0])
    ground = shapes(square(0, 0, 250), square(300, 300, 250))
    expected = [shape.intersection(shapely.union_all(ground)).area for shape in several]
    assert area_within(several, ground) == pytest.approx(expected)


def test_without_polygons_there_are_no_pairs() -> None:
    nothing = np.empty(0, dtype=object)
    assert len(pairs_of(nothing, shapes(square(0))).one) == len(pairs_of(shapes(square(0)), nothing).one) == 0
    assert area_within(shapes(square(0)), nothing).tolist() == [0]
    assert len(own_parts(nothing)) == 0
