"""Links between detections, their clusters, and the votes that divide clusters into sites.

Detections are linked in pairs. The connected components of the links are *clusters*. A cluster is divided into sites by
votes of scenes, so that one scene that merges several slumps does not merge their sites.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from darts_assets.geo.equal_area import Geometries
from darts_assets.inventory.site_parameters import InventoryParameters

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Links:
    """Linked pairs of detections.

    Attributes:
        one: number of a detection (links,).
        other: number of the other one, which is larger (links,).
        likeness: shared area by the area of their union (links,), 0 to 1; 1 if all of a cluster are linked.
    """

    one: Indices
    other: Indices
    likeness: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Division:
    """The sites of a cluster.

    Attributes:
        sites: site of each detection, 0 to the number of sites - 1, in the order of their first detections.
        across: site -> scenes without a detection of it, whose detection of another site lies across it.
        merging: these detections.
    """

    sites: list[int]
    across: Mapping[int, set[str]]
    merging: set[int]


def find_links(
    geometries: Geometries, scenes: Indices, cut: npt.NDArray[np.bool_], parameters: InventoryParameters
) -> Links:
    """The links between detections of different scenes.

    Args:
        geometries: n detections in `EQUAL_AREA`.
        scenes: scene number of each detection.
        cut: whether the edge of the valid area cuts the detection.
        parameters: `min_overlap` and `tolerance`.
    """
    one, other = _close_pairs(geometries, scenes, parameters.tolerance)
    areas, likeness = shapely.area(geometries), np.ones(len(one))
    is_linked = _all_overlap(geometries, one, other, parameters.min_overlap)
    rest = np.flatnonzero(~is_linked)
    pairs = geometries[one[rest]], geometries[other[rest]]
    shared = shared_area(*pairs)
    likeness[rest] = shared / (areas[one[rest]] + areas[other[rest]] - shared)
    is_linked[rest[overlapping(*pairs, shared, parameters.min_overlap)]] = True
    is_linked |= cut[one] | cut[other]  # then proximity is enough
    return Links(one[is_linked], other[is_linked], likeness[is_linked])


def links_within(links: Links, groups: npt.NDArray[np.object_]) -> Links:
    """The links between detections of one group.

    Args:
        links: links between detections.
        groups: group of each detection.
    """
    same = groups[links.one] == groups[links.other]
    return Links(links.one[same], links.other[same], links.likeness[same])


def clusters_of(count: int, links: Links) -> Indices:
    """Cluster of each of `count` detections: int64, numbered in the order of their first detections."""
    labels = _components(count, links.one, links.other)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def divide(links: Links, scenes: Sequence[str], looks: Mapping[str, set[int]], min_support: float) -> Division:
    """Divide a cluster into sites.

    Groups of detections grow from single ones, along links from the most to the least alike. Two groups become one if
    at least `min_support` of the voting scenes join them. A scene votes if it detects one of the groups and looks at
    the other. It joins them if a detection in one of them lies across the other, that is, if it is linked to more than
    half of the other's scenes, except its own. A scene with a detection in each does not join them.

    Args:
        links: links within the cluster; detections are numbered from 0 and in the order of the inventory.
        scenes: scene of each detection.
        looks: scene -> detections whose place it observes; a scene that is absent observes all.
        min_support: fraction of scenes.
    """
    count = len(scenes)
    if len(links.one) == count * (count - 1) // 2:  # all are linked: no two are of the same scene
        return Division([0] * count, {}, set())
    groups = _Groups(links, scenes, looks)
    order = np.lexsort((links.other, links.one, -links.likeness))
    pairs = list(zip(links.one[order].tolist(), links.other[order].tolist(), strict=True))
    refused: set[tuple[int, int, int, int]] = set()
    merged = True
    while merged:
        merged = False
        for one, other in pairs:
            first, second = sorted((groups.of[one], groups.of[other]))
            state = first, second, len(groups.members[first]), len(groups.members[second])
            if first == second or state in refused:
                continue
            if groups.support(first, second) >= min_support:
                groups.merge(first, second)
                merged = True
            else:
                refused.add(state)
    return groups.division()


class _Groups:
    """Groups of a cluster's detections; a group is named by its first detection.

    Attributes:
        of: group of each detection.
        members: group -> detections.
    """

    def __init__(self, links: Links, scenes: Sequence[str], looks: Mapping[str, set[int]]) -> None:
        self.of = list(range(len(scenes)))
        self.members = {number: [number] for number in self.of}
        self._scenes, self._looks = scenes, looks
        self._seeing = {number: {scene} for number, scene in enumerate(scenes)}
        # Group -> detections that are linked to it.
        self._near: defaultdict[int, set[int]] = defaultdict(set)
        # Detection -> group -> scenes with a detection in the group that is linked to it.
        self._linked: list[defaultdict[int, set[str]]] = [defaultdict(set) for _ in scenes]
        for one, other in zip(links.one.tolist(), links.other.tolist(), strict=True):
            for detection, group in ((one, other), (other, one)):
                self._linked[detection][group].add(scenes[group])
                self._near[group].add(detection)

    def support(self, one: int, other: int) -> float:
        """The fraction of the voting scenes that join two groups; at least one votes."""
        both = self._seeing[one] & self._seeing[other]
        joining = {
            self._scenes[detection]
            for mine, group in ((one, other), (other, one))
            for detection in self.members[mine]
            if self._scenes[detection] not in both and self._lies_across(detection, group)
        }
        voting = both | joining
        for mine, group in ((one, other), (other, one)):
            voting |= {scene for scene in self._seeing[mine] - voting if self._looks_at(scene, group)}
        return len(joining) / len(voting) if voting else 0.0

    def merge(self, one: int, other: int) -> None:
        """Add the detections of the second group to the first one."""
        for detection in self.members[other]:
            self.of[detection] = one
        self.members[one] += self.members.pop(other)
        self._seeing[one] |= self._seeing.pop(other)
        near = self._near.pop(other, set())
        for detection in near:
            self._linked[detection][one] |= self._linked[detection].pop(other)
        self._near[one] |= near

    def division(self) -> Division:
        """The groups as sites."""
        number = {group: index for index, group in enumerate(sorted(self.members))}
        across: defaultdict[int, set[str]] = defaultdict(set)
        merging = set()
        for detection, linked in enumerate(self._linked):
            scene = self._scenes[detection]
            for group in linked:
                if scene not in self._seeing[group] and self._lies_across(detection, group):
                    across[number[group]].add(scene)
                    merging.add(detection)
        return Division([number[group] for group in self.of], dict(across), merging)

    def _lies_across(self, detection: int, group: int) -> bool:
        others = self._seeing[group] - {self._scenes[detection]}
        return 2 * len(self._linked[detection].get(group, ())) > len(others)

    def _looks_at(self, scene: str, group: int) -> bool:
        if scene not in self._looks:
            return True
        members = self.members[group]
        return 2 * sum(member in self._looks[scene] for member in members) >= len(members)


def shared_area(one: Geometries, other: Geometries) -> npt.NDArray[np.float64]:
    """Area of the intersection of each pair, m2: float64 (n,)."""
    area: npt.NDArray[np.float64] = shapely.area(shapely.intersection(one, other))
    return area


def overlapping(one: Geometries, other: Geometries, shared: npt.NDArray[np.float64], least: float) -> Indices:
    """Indices of pairs whose shared area is at least `least` (fraction) of the smaller one's area."""
    return np.flatnonzero(shared >= least * np.minimum(shapely.area(one), shapely.area(other)))


def _all_overlap(geometries: Geometries, one: Indices, other: Indices, least: float) -> npt.NDArray[np.bool_]:
    """Whether each pair belongs to detections that all share an area large enough to link any two of them.

    Most slumps are such detections. The area of n detections takes n - 1 overlays; their pairs, which are many more,
    need not be tested.
    """
    labels = _components(len(geometries), one, other)
    sizes, pairs = np.bincount(labels), np.bincount(labels[one], minlength=labels.max(initial=-1) + 1)
    candidates = np.flatnonzero((sizes > 2) & (pairs == sizes * (sizes - 1) // 2))
    overlap = np.zeros(len(sizes), dtype=bool)
    order, ends = np.argsort(labels, kind="stable"), np.cumsum(sizes)
    for label in candidates:
        members = geometries[order[ends[label] - sizes[label] : ends[label]]]
        second = np.sort(shapely.area(members))[-2]  # no pair's smaller one is larger
        overlap[label] = shapely.area(shapely.intersection_all(members)) >= least * second
    return overlap[labels[one]]


def _components(count: int, one: Indices, other: Indices) -> Indices:
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(count, count))
    labels: Indices = connected_components(graph, directed=False)[1]
    return labels


def _close_pairs(geometries: Geometries, scenes: Indices, tolerance: float) -> tuple[Indices, Indices]:
    """Pairs of detections of different scenes at most `tolerance` metres apart, sorted."""
    one, other = shapely.STRtree(geometries).query(geometries, predicate="dwithin", distance=tolerance)
    differ = (one < other) & (scenes[one] != scenes[other])
    one, other = one[differ], other[differ]
    order = np.lexsort((other, one))
    return one[order], other[order]
