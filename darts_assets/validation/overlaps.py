"""Overlaps between two sets of polygons: pairs, matches by a rule, one-to-one assignments, and areas that add up."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from darts_assets.geo.equal_area import LEAST_AREA, Geometries
from darts_assets.validation.accuracy_parameters import OverlapRule

Indices = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of intersecting polygons that share at least a square metre, by number of the first and of the second.

    Attributes:
        one: number of a polygon of the first set (pairs,).
        other: number of one of the second set (pairs,).
        shared: shared area (pairs,), m2.
        smaller: shared area by the area of the smaller one (pairs,).
        iou: shared area by the area of the union (pairs,).
    """

    one: Indices
    other: Indices
    shared: Values
    smaller: Values
    iou: Values

    def matching(self, rule: OverlapRule) -> Flags:
        """Whether each pair is a match."""
        if rule.kind == "any":
            return np.ones(len(self.one), dtype=bool)
        return (self.smaller if rule.kind == "smaller" else self.iou) >= rule.least

    def where(self, chosen: Flags) -> "Pairs":
        """Some of the pairs."""
        return Pairs(*(getattr(self, name)[chosen] for name in ("one", "other", "shared", "smaller", "iou")))


def pairs_of(one: Geometries, other: Geometries) -> Pairs:
    """The pairs of two sets of valid polygons in an equal-area projection."""
    first, second = shapely.STRtree(other).query(one, predicate="intersects")
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    shared = shapely.area(shapely.intersection(one[first], other[second]))
    areas = shapely.area(one[first]), shapely.area(other[second])
    pairs = Pairs(first, second, shared, shared / np.minimum(*areas), shared / (areas[0] + areas[1] - shared))
    return pairs.where(shared >= LEAST_AREA)


def one_to_one(pairs: Pairs) -> Flags:
    """The pairs of an assignment in which each polygon has at most one partner: pairs with a larger IoU come first."""
    taken_one, taken_other = set[int](), set[int]()
    chosen = np.zeros(len(pairs.one), dtype=bool)
    for pair in np.lexsort((pairs.other, pairs.one, -pairs.iou)):
        one, other = int(pairs.one[pair]), int(pairs.other[pair])
        if one not in taken_one and other not in taken_other:
            chosen[pair] = True
            taken_one.add(one)
            taken_other.add(other)
    return chosen


def own_parts(shapes: Geometries) -> Geometries:
    """Each polygon without the parts that lie in earlier ones, so that areas add up to the area of the union."""
    later, earlier = shapely.STRtree(shapes).query(shapes, predicate="intersects")
    before = earlier < later
    result = shapes.copy()
    for number, near in _grouped(later[before], earlier[before]):
        result[number] = shapely.difference(shapes[number], shapely.union_all(shapes[near]))
    return result


def parts_within(shapes: Geometries, others: Geometries) -> Geometries:
    """The part of each polygon in the union of others (n,); may be empty."""
    tree, result = shapely.STRtree(others), np.full(len(shapes), shapely.Polygon(), dtype=object)
    inside = np.unique(tree.query(shapes, predicate="covered_by")[0])
    result[inside] = shapes[inside]
    one, other = tree.query(shapes, predicate="intersects")
    rest = ~np.isin(one, inside)
    for number, near in _grouped(one[rest], other[rest]):
        result[number] = shapely.intersection(shapes[number], shapely.union_all(others[near]))
    return result


def area_within(shapes: Geometries, others: Geometries) -> Values:
    """The area of `parts_within`, m2 (n,)."""
    areas: Values = shapely.area(parts_within(shapes, others))
    return areas


def _grouped(one: Indices, other: Indices) -> list[tuple[int, Indices]]:
    """The partners of each number."""
    order = np.lexsort((other, one))
    numbers, starts = np.unique(one[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(other[order], starts[1:]), strict=True)) if len(numbers) else []
