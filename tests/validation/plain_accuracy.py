"""Accuracy of one period by plain loops over all pairs: slow, and independent of the package."""

from dataclasses import dataclass, field

from shapely import union_all
from shapely.geometry.base import BaseGeometry


@dataclass
class Plain:
    """Both sides of one period, in metres.

    Attributes:
        ours: id -> outline.
        slumps: id -> outline, of the reference.
        extent: mapped ground.
        unseen: ids of the reference that were not observed.
        others: outlines of the reference of other years.
        ignored: outlines that the reference declares undecided.
    """

    ours: dict[str, BaseGeometry]
    slumps: dict[str, BaseGeometry]
    extent: BaseGeometry
    unseen: set[str] = field(default_factory=set)
    others: list[BaseGeometry] = field(default_factory=list)
    ignored: list[BaseGeometry] = field(default_factory=list)

    def mapped(self, shape: BaseGeometry) -> bool:
        return shape.intersection(self.extent).area >= 0.5 * shape.area

    def counts(self, rule: str, *, one: bool = False) -> dict[str, int]:
        """Objects that count and their hits."""
        pairs = self.matches(rule)
        matched = {mine for _, mine, _ in pairs}
        undecided = {
            name
            for name, shape in self.ours.items()
            if name not in matched and any(matches(shape, other, rule) for other in [*self.others, *self.ignored])
        }
        if one:
            chosen: list[tuple[float, str, str]] = []
            for pair in sorted(pairs, key=lambda pair: (-pair[0], self.rank(pair[1]), self.rank(pair[2]))):
                if all(pair[1] != mine and pair[2] != theirs for _, mine, theirs in chosen):
                    chosen.append(pair)
            pairs = chosen
        ours = {name for name, shape in self.ours.items() if self.mapped(shape) and name not in undecided}
        theirs = {name for name, shape in self.slumps.items() if self.mapped(shape) and name not in self.unseen}
        return {
            "reference": len(theirs),
            "reference_hit": len({name for _, _, name in pairs} & theirs),
            "ours": len(ours),
            "ours_hit": len({name for _, name, _ in pairs} & ours),
        }

    def rank(self, name: str) -> int:
        return list(self.ours).index(name) if name in self.ours else list(self.slumps).index(name)

    def matches(self, rule: str) -> list[tuple[float, str, str]]:
        """IoU and ids of all matches."""
        return [
            (iou(shape, other), name, their_name)
            for name, shape in self.ours.items()
            for their_name, other in self.slumps.items()
            if matches(shape, other, rule)
        ]

    def areas(self, rule: str) -> dict[str, float]:
        """Areas of the objects that count, m2."""
        pairs = self.matches(rule)
        theirs = {name for name, shape in self.slumps.items() if self.mapped(shape) and name not in self.unseen}
        ours, hits = set(), set()
        for name, shape in self.ours.items():
            partners = {other for _, mine, other in pairs if mine == name}
            near = any(matches(shape, other, rule) for other in [*self.others, *self.ignored])
            if self.mapped(shape) and (partners & theirs or (not partners and not near)):
                ours.add(name)
                hits |= {name} if partners & theirs else set()
        found_slumps = {other for _, mine, other in pairs if other in theirs}
        every, all_theirs = (
            union_all([shapes[name] for name in names]).intersection(self.extent)
            for shapes, names in ((self.ours, ours), (self.slumps, theirs))
        )
        hit, their_hit = (
            union_all([shapes[name] for name in names]).intersection(self.extent)
            for shapes, names in ((self.ours, hits), (self.slumps, found_slumps))
        )
        return {
            "area_ours": every.area,
            "area_reference": all_theirs.area,
            "area_shared": every.intersection(all_theirs).area,
            "area_iou": every.intersection(all_theirs).area / every.union(all_theirs).area,
            "area_ratio": every.area / all_theirs.area,
            "matched_iou": hit.intersection(their_hit).area / hit.union(their_hit).area,
            "matched_ratio": hit.area / their_hit.area,
        }


_shared: dict[tuple[int, int], tuple[float, BaseGeometry, BaseGeometry]] = {}


def shared_area(one: BaseGeometry, other: BaseGeometry) -> float:
    """Area that two outlines share, computed once for each two objects."""
    key = id(one), id(other)
    if key not in _shared:
        _shared[key] = (0.0 if apart(one, other) else one.intersection(other).area), one, other
    return _shared[key][0]


def matches(one: BaseGeometry, other: BaseGeometry, rule: str) -> bool:
    """Whether two outlines are a match."""
    shared = shared_area(one, other)
    if shared < 1:
        return False
    kind, _, least = rule.partition(" ")
    if kind == "any":
        return True
    whole = min(one.area, other.area) if kind == "smaller" else one.area + other.area - shared
    return shared / whole >= float(least)


def iou(one: BaseGeometry, other: BaseGeometry) -> float:
    shared = shared_area(one, other)
    return shared / (one.area + other.area - shared)


def apart(one: BaseGeometry, other: BaseGeometry) -> bool:
    west, south, east, north = one.bounds
    left, low, right, high = other.bounds
    return west > right or left > east or south > high or low > north
