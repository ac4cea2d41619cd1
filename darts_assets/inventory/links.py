"""Which detections are of one site: those that overlap enough, and whatever hangs together by such pairs."""

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from darts_assets.inventory.equal_area import Geometries
from darts_assets.inventory.site_parameters import InventoryParameters

Indices = npt.NDArray[np.int64]


def sites_of(
    geometries: Geometries, scenes: Indices, cut: npt.NDArray[np.bool_], parameters: InventoryParameters
) -> Indices:
    """The number of each detection's site: the connected components of pairs that are linked.

    Args:
        geometries: n detections in `EQUAL_AREA`.
        scenes: number of each one's scene; detections of one scene are never linked directly.
        cut: whether the border of the valid area cuts the detection.
        parameters: what links two detections.

    Returns:
        int64 (n,), 0 to the number of sites - 1, in the order of the first detection of each.
    """
    one, other = _close_pairs(geometries, scenes, parameters.tolerance)
    labels = np.arange(len(geometries))
    linked: list[tuple[Indices, Indices]] = []
    while len(one):
        # Overlays are dear, and most pairs are of a site that others have joined: a pair per detection at a time.
        now = np.unique(one, return_index=True)[1]
        are = _are_linked(geometries, one[now], other[now], cut, parameters.min_overlap)
        linked.append((one[now][are], other[now][are]))
        labels = _components(len(geometries), linked)
        left = np.ones(len(one), dtype=bool)
        left[now] = False
        left &= labels[one] != labels[other]
        one, other = one[left], other[left]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def shared_area(one: Geometries, other: Geometries) -> npt.NDArray[np.float64]:
    """Area that each pair shares, m2: float64 (n,)."""
    area: npt.NDArray[np.float64] = shapely.area(shapely.intersection(one, other))
    return area


def overlapping(one: Geometries, other: Geometries, shared: npt.NDArray[np.float64], least: float) -> Indices:
    """The pairs that share at least this part of the smaller one's area."""
    return np.flatnonzero(shared >= least * np.minimum(shapely.area(one), shapely.area(other)))


def _close_pairs(geometries: Geometries, scenes: Indices, tolerance: float) -> tuple[Indices, Indices]:
    """Pairs of detections of two scenes that are within the tolerance of each other, sorted."""
    one, other = shapely.STRtree(geometries).query(geometries, predicate="dwithin", distance=tolerance)
    differ = (one < other) & (scenes[one] != scenes[other])
    one, other = one[differ], other[differ]
    order = np.lexsort((other, one))
    return one[order], other[order]


def _are_linked(
    geometries: Geometries, one: Indices, other: Indices, cut: npt.NDArray[np.bool_], min_overlap: float
) -> npt.NDArray[np.bool_]:
    """Whether pairs that are close are of one site."""
    linked: npt.NDArray[np.bool_] = cut[one] | cut[other]
    whole = np.flatnonzero(~linked)
    pairs = geometries[one[whole]], geometries[other[whole]]
    linked[whole[overlapping(*pairs, shared_area(*pairs), min_overlap)]] = True
    return linked


def _components(count: int, linked: list[tuple[Indices, Indices]]) -> Indices:
    one, other = (np.concatenate(ends) for ends in zip(*linked, strict=True))
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(count, count))
    labels: Indices = connected_components(graph, directed=False)[1]
    return labels
