"""Links between detections: overlapping pairs, whose connected components are the sites."""

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
    """Site number of each detection: the connected components of linked pairs.

    Args:
        geometries: n detections in `EQUAL_AREA`.
        scenes: scene number of each detection; two detections of one scene are never linked directly.
        cut: whether the edge of the valid area cuts the detection.
        parameters: `min_overlap` and `tolerance`.

    Returns:
        int64 (n,), 0 to the number of sites - 1, in the order of their first detections.
    """
    one, other = _close_pairs(geometries, scenes, parameters.tolerance)
    labels = np.arange(len(geometries))
    linked: list[tuple[Indices, Indices]] = []
    while len(one):
        # Overlays are slow, and other pairs have joined most of these already: test one pair per detection at a time.
        batch = np.unique(one, return_index=True)[1]
        is_linked = _are_linked(geometries, one[batch], other[batch], cut, parameters.min_overlap)
        linked.append((one[batch][is_linked], other[batch][is_linked]))
        labels = _components(len(geometries), linked)
        remaining = labels[one] != labels[other]
        remaining[batch] = False
        one, other = one[remaining], other[remaining]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def shared_area(one: Geometries, other: Geometries) -> npt.NDArray[np.float64]:
    """Area of the intersection of each pair, m2: float64 (n,)."""
    area: npt.NDArray[np.float64] = shapely.area(shapely.intersection(one, other))
    return area


def overlapping(one: Geometries, other: Geometries, shared: npt.NDArray[np.float64], least: float) -> Indices:
    """Indices of pairs whose shared area is at least `least` (fraction) of the smaller one's area."""
    return np.flatnonzero(shared >= least * np.minimum(shapely.area(one), shapely.area(other)))


def _close_pairs(geometries: Geometries, scenes: Indices, tolerance: float) -> tuple[Indices, Indices]:
    """Pairs of detections of different scenes at most `tolerance` metres apart, sorted."""
    one, other = shapely.STRtree(geometries).query(geometries, predicate="dwithin", distance=tolerance)
    differ = (one < other) & (scenes[one] != scenes[other])
    one, other = one[differ], other[differ]
    order = np.lexsort((other, one))
    return one[order], other[order]


def _are_linked(
    geometries: Geometries, one: Indices, other: Indices, cut: npt.NDArray[np.bool_], min_overlap: float
) -> npt.NDArray[np.bool_]:
    """Whether each close pair is linked: overlap of whole detections, proximity alone if either is cut."""
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
