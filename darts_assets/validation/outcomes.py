"""Outcome of each object of ours and of the reference, in each compared period."""

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from darts_assets.errors import SettingsError
from darts_assets.geo.equal_area import EQUAL_AREA, Geometries, to_lonlat
from darts_assets.geo.grid_zones import region_of
from darts_assets.validation.accuracy_parameters import AccuracyParameters, OverlapRule
from darts_assets.validation.overlaps import Flags, Pairs, area_within, one_to_one, own_parts, pairs_of, parts_within
from darts_assets.validation.reference_layouts import IGNORED, NEGATIVE, OBJECT_COLUMNS, POSITIVE, objects_table

HIT, MISS, FALSE_ALARM = "hit", "miss", "false_alarm"
NOT_OBSERVED, UNMAPPED, OTHER_DATE = "not_observed", "unmapped", "other_date"
ON_NEGATIVE, ON_IGNORED, CLEAR_NEGATIVE = "on_negative", "on_ignored", "clear_negative"

OUTCOMES_OF_OURS = {
    HIT: "matches a slump of the reference",
    FALSE_ALARM: "matches none, on mapped ground",
    UNMAPPED: "not on mapped ground: the reference does not decide",
    ON_NEGATIVE: "not on mapped ground, but on ground that the reference declares free of slumps",
    OTHER_DATE: "matches only slumps that the reference has for other years",
    ON_IGNORED: "matches only outlines that the reference declares undecided",
}
"""Outcome -> meaning, for our objects; `hit` and `false_alarm` count for the precision."""

OUTCOMES_OF_REFERENCE = {
    HIT: "a slump that one of ours matches",
    MISS: "a slump that none of ours matches",
    NOT_OBSERVED: "a slump or negative to which no scene had a clear view",
    UNMAPPED: "a slump outside of the extent",
    ON_NEGATIVE: "a negative that one of ours matches, which matches no slump",
    CLEAR_NEGATIVE: "a negative that none of ours matches",
}
"""Outcome -> meaning, for the reference; `hit` and `miss` count for the recall."""

LAYER_COLUMNS = {
    "id": "str",
    "period": "str",
    "outcome": "str",
    "matches": "str",
    "iou": "float64",
    "overlap": "float64",
    "shared_m2": "float64",
    "area_m2": "float64",
    "size_class": "str",
    "region": "str",
    "block": "str",
    "start": "datetime64[ms]",
    "end": "datetime64[ms]",
    "kind": "str",
    "source": "str",
}
"""Columns of the layers before `geometry`."""

LAYER_DESCRIPTIONS = {
    "id": "id of the object",
    "period": "year or years that are compared",
    "outcome": "what the other side has there, see the README of the room",
    "matches": "ids of the matches on the other side, separated by commas; for other outcomes, of what explains them",
    "iou": "largest shared area by the area of the union, with any slump of the other side in the period",
    "overlap": "largest shared area by the area of the smaller one, likewise",
    "shared_m2": "area that lies within slumps of the other side, m2",
    "area_m2": "area, m2",
    "size_class": "class of the area",
    "region": "grid zone of MGRS, or region of the extent",
    "block": "block of the bootstrap: column and row",
    "start": "first day of the imagery",
    "end": "last day of the imagery",
    "kind": "positive, negative or ignored",
    "source": "layer or file",
}
"""Column -> description."""

COUNTS = (
    "reference", "reference_hit", "misses", "split", "not_observed", "unmapped_reference",
    "ours", "ours_hit", "false_alarms", "merged", "unmapped_ours", "other_date", "on_ignored", "on_negative",
    "negatives", "negatives_hit",
)  # fmt: skip
"""Numbers of objects."""

AREAS = ("area_reference", "area_ours", "area_shared", "area_reference_hit", "area_ours_hit", "area_shared_hit")
"""Parts of the objects that count, on mapped ground, m2; where objects overlap, ground counts once."""

Observed = Callable[[int, Geometries], Flags]
"""Whether each polygon was observed in a year."""


@dataclass(frozen=True, slots=True)
class Period:
    """Years that are compared at once; none if nothing has a date."""

    years: tuple[int, ...]

    def __str__(self) -> str:
        years = self.years
        if not years:
            return "all"
        whole = years[-1] - years[0] == len(years) - 1
        return str(years[0]) if len(years) == 1 else f"{years[0]}-{years[-1]}" if whole else "+".join(map(str, years))


@dataclass
class Comparison:
    """Two sides of a comparison, in `EQUAL_AREA`.

    Attributes:
        ours: `OBJECT_COLUMNS`; a column `slump` joins the outlines of a slump if all years are one period.
        reference: `OBJECT_COLUMNS`.
        parameters: of the comparison.
        extent: what the reference has mapped: result of `read_areas`; None if that is not known.
        observed: whether the reference's objects were observed; None if all were.
        our_years: years that we have mapped, also without a slump; by default those of our objects.
    """

    ours: gpd.GeoDataFrame
    reference: gpd.GeoDataFrame
    parameters: AccuracyParameters
    extent: gpd.GeoDataFrame | None = None
    observed: Observed | None = None
    our_years: Sequence[int] | None = None
    _seen: dict[int, Flags] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.reference["kind"] == POSITIVE).any():
            raise SettingsError("the reference has no slumps; at least one object must be positive")

    def periods(self) -> list[Period]:
        """The compared periods.

        Raises:
            SettingsError: if the years of both sides do not meet.
        """
        tolerance, chosen = self.parameters.year_tolerance, set(self.parameters.years)
        slumps = self.reference[self.reference["kind"] == POSITIVE]
        ours = set(self.our_years) if self.our_years is not None else _years(self.ours, 0)
        theirs = _years(slumps, tolerance)
        undated = slumps["start"].isna().any()
        # Objects without dates belong to all years.
        years = (ours if undated else ours & theirs) if ours else theirs
        if chosen:
            years = chosen & years if years else chosen
        if not years and (ours or theirs):
            raise SettingsError(
                f"no year to compare: ours are of {_listed(ours)}, the reference is of {_listed(_years(slumps, 0))}"
                f"{f', years is {sorted(chosen)}' if chosen else ''}; set year_tolerance or years"
            )
        ordered = sorted(years)
        # A map without dates is one map: to compare it with each year would count it several times.
        if self.parameters.together or not ours:
            return [Period(tuple(ordered))]
        return [Period((year,)) for year in ordered]

    def observed_in(self, period: Period, rows: npt.NDArray[np.int64]) -> Flags:
        """Whether rows of the reference were observed in a year of the period to which they apply."""
        seen = np.zeros(len(rows), dtype=bool)
        if self.observed is None:
            return ~seen
        for year in period.years or (0,):
            applies = _applies(self.reference, Period((year,) if year else ()), self.parameters.year_tolerance)
            if year not in self._seen:
                flags = np.zeros(len(self.reference), dtype=bool)
                (which,) = np.nonzero(applies)
                flags[which] = self.observed(year, self.reference.geometry.to_numpy()[which])
                self._seen[year] = flags
            seen |= (self._seen[year] & applies)[rows]
        return seen


@dataclass(frozen=True)
class PeriodOutcomes:
    """The objects of one period.

    Attributes:
        ours: `LAYER_COLUMNS` and polygons.
        reference: likewise.
        sums: one row per object, first ours, then the reference's: `period`, `region`, `size_class`, `block`, and
            float64 numbers that add up: the names of `COUNTS` and `AREAS`, and those of `rule_sums` for each rule.
    """

    ours: gpd.GeoDataFrame
    reference: gpd.GeoDataFrame
    sums: pd.DataFrame


def site_objects(sites: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Sites of an inventory, such as `rts_sites`, as objects with the column `slump`.

    Args:
        sites: `site_id`, `slump_id`, `year` and outlines in `EQUAL_AREA`. A site belongs to its year.
    """
    days = [(dt.date(year, 1, 1), dt.date(year, 12, 31)) for year in sites["year"]]
    objects = objects_table(sites["site_id"], days, POSITIVE, "rts_sites", sites.geometry)
    return objects.assign(slump=sites["slump_id"].to_numpy())


def observed_by(areas: gpd.GeoDataFrame, min_coverage: float) -> Observed:
    """What was observed, from areas with or without dates: result of `read_areas`."""

    def observed(year: int, outlines: Geometries) -> Flags:
        rows = areas[_applies(areas, Period((year,) if year else ()), 0)]
        return _covered(outlines, _joined(rows.geometry.to_numpy()), min_coverage)

    return observed


def rule_sums(rule: OverlapRule, matching: str) -> list[str]:
    """Names of the sums of a rule: numbers of our objects, their hits, the reference's objects, and their hits.

    Args:
        rule: the rule.
        matching: `many`, or `one` for matches of at most one object of ours with one of the reference.
    """
    return [f"{name} {rule} {matching}" for name in ("ours", "ours_hit", "reference", "reference_hit")]


def outcomes(comparison: Comparison, period: Period) -> PeriodOutcomes:
    """The outcomes of a period by the first rule, and the sums for all rules."""
    parameters = comparison.parameters
    ours = _of_period(comparison, period)
    applies = _applies(comparison.reference, period, parameters.year_tolerance)
    kinds = comparison.reference["kind"].to_numpy(dtype=object)
    (rows,) = np.nonzero(applies & np.isin(kinds, (POSITIVE, NEGATIVE)))
    reference = comparison.reference.iloc[rows].reset_index(drop=True)
    is_slump = (reference["kind"] == POSITIVE).to_numpy()
    ground = _ground(comparison, period)
    sides = ours.geometry.to_numpy(), reference.geometry.to_numpy()
    mapped_ours, mapped_theirs = (_covered(shapes, ground, parameters.min_coverage) for shapes in sides)
    seen = comparison.observed_in(period, rows)

    pairs = _pairs_with(sides[0], reference, is_slump)
    negatives = _pairs_with(sides[0], reference, ~is_slump)
    ignored = _pairs_with(sides[0], comparison.reference, applies & (kinds == IGNORED))
    elsewhen = _pairs_with(sides[0], comparison.reference, ~applies & (kinds == POSITIVE))

    def of_ours(rule: OverlapRule, assigned: Flags) -> npt.NDArray[np.object_]:
        """Outcomes of ours by a rule; `assigned` are the pairs that count as matches."""
        free = ~_flagged(len(ours), pairs.one[pairs.matching(rule)])
        on_ignored, on_other, on_negative = (
            _flagged(len(ours), of.one[of.matching(rule)]) for of in (ignored, elsewhen, negatives)
        )
        result = np.where(mapped_ours, FALSE_ALARM, UNMAPPED).astype(object)
        result[mapped_ours & free & on_other] = OTHER_DATE
        result[mapped_ours & free & on_ignored] = ON_IGNORED
        result[~mapped_ours & free & on_negative] = ON_NEGATIVE
        result[_flagged(len(ours), pairs.one[assigned]) & (mapped_ours | (ground is None))] = HIT
        return result

    main = parameters.overlap_rules[0]
    matches = pairs.where(pairs.matching(main))
    of_us = of_ours(main, pairs.matching(main))
    free = ~_flagged(len(ours), matches.one)
    wrong = negatives.where(negatives.matching(main) & free[negatives.one])
    outside = is_slump & ~mapped_theirs & (ground is not None)
    of_them = np.full(len(reference), MISS, dtype=object)
    of_them[_flagged(len(reference), matches.other)] = HIT
    of_them[~is_slump] = CLEAR_NEGATIVE
    of_them[_flagged(len(reference), wrong.other)] = ON_NEGATIVE
    of_them[~seen] = NOT_OBSERVED
    of_them[outside] = UNMAPPED
    counted = np.isin(of_them, (HIT, MISS))

    sums = _sums(ours, reference, of_us, of_them, matches, ground)
    decided = [] if ground is None else [HIT, FALSE_ALARM]
    for rule in parameters.overlap_rules:
        single = pairs.matching(rule)
        single[single] = one_to_one(pairs.where(single))
        for matching, assigned in (("many", pairs.matching(rule)), ("one", single)):
            result, taken = of_ours(rule, assigned), _flagged(len(reference), pairs.other[assigned])
            names = rule_sums(rule, matching)
            for name, flags in zip(names[:2], (np.isin(result, decided), result == HIT), strict=True):
                sums[name] = _beside(flags, len(reference))
            for name, flags in zip(names[2:], (counted, counted & taken), strict=True):
                sums[name] = _beside(flags, len(ours), before=True)

    explained = {OTHER_DATE: (elsewhen, comparison.reference), ON_IGNORED: (ignored, comparison.reference)}
    texts = _ids(matches.one, matches.other, reference["id"], len(ours))
    for name, (of, table) in {**explained, ON_NEGATIVE: (negatives, reference)}.items():
        near = of.where(of.matching(main))
        texts = np.where(of_us == name, _ids(near.one, near.other, table["id"], len(ours)), texts)
    back = _ids(matches.other, matches.one, ours["id"], len(reference))
    back = np.where(of_them == ON_NEGATIVE, _ids(wrong.other, wrong.one, ours["id"], len(reference)), back)
    layers = (
        _layer(comparison, period, ours, of_us, texts, pairs, pairs.one, sides[1][is_slump]),
        _layer(comparison, period, reference, of_them, back, pairs, pairs.other, sides[0]),
    )
    keys = ["period", "region", "size_class", "block"]
    both = pd.concat([layer[keys] for layer in layers], ignore_index=True)
    return PeriodOutcomes(*layers, pd.concat([both, pd.DataFrame(sums)], axis=1))


def _sums(
    ours: gpd.GeoDataFrame,
    reference: gpd.GeoDataFrame,
    of_us: npt.NDArray[np.object_],
    of_them: npt.NDArray[np.object_],
    matches: Pairs,
    ground: Geometries | None,
) -> dict[str, npt.NDArray[np.float64]]:
    """`COUNTS` and `AREAS` of each object, first ours."""
    shapes, theirs = ours.geometry.to_numpy(), reference.geometry.to_numpy()
    kinds = reference["kind"].to_numpy(dtype=object)
    counted = np.isin(of_them, (HIT, MISS))
    # Of hits, those are compared by area whose slumps count; without an extent, all of ours may lie on a slump.
    on_counted = _flagged(len(ours), matches.one[counted[matches.other]])
    compared = ((of_us == HIT) & on_counted) | (of_us == FALSE_ALARM)
    compared = compared if ground is not None else np.ones(len(ours), dtype=bool)
    partners_of_us, partners_of_them = (
        np.bincount(of, minlength=count) for of, count in ((matches.one, len(ours)), (matches.other, len(reference)))
    )
    ours_flags = {
        "ours": np.isin(of_us, (HIT, FALSE_ALARM)) & (ground is not None), "ours_hit": of_us == HIT,
        "false_alarms": of_us == FALSE_ALARM, "merged": (of_us == HIT) & (partners_of_us > 1),
        "unmapped_ours": of_us == UNMAPPED, "other_date": of_us == OTHER_DATE, "on_ignored": of_us == ON_IGNORED,
        "on_negative": of_us == ON_NEGATIVE,
    }  # fmt: skip
    slump = kinds == POSITIVE
    their_flags = {
        "reference": counted, "reference_hit": of_them == HIT, "misses": of_them == MISS,
        "split": (of_them == HIT) & (partners_of_them > 1), "not_observed": slump & (of_them == NOT_OBSERVED),
        "unmapped_reference": of_them == UNMAPPED, "negatives": np.isin(of_them, (ON_NEGATIVE, CLEAR_NEGATIVE)),
        "negatives_hit": of_them == ON_NEGATIVE,
    }  # fmt: skip
    sums = {name: _beside(flags, len(reference)) for name, flags in ours_flags.items()}
    sums |= {name: _beside(flags, len(ours), before=True) for name, flags in their_flags.items()}

    def areas(chosen: Flags, of: Geometries, within: Geometries | None) -> npt.NDArray[np.float64]:
        """Areas of the chosen objects on mapped ground, or of their parts within others."""
        result = np.zeros(len(of))
        own = own_parts(of[chosen]) if ground is None else parts_within(own_parts(of[chosen]), ground)
        result[chosen] = shapely.area(own) if within is None else area_within(own, within)
        return result

    hits_of_us, hits_of_them = compared & on_counted, of_them == HIT
    area_ours = areas(compared, shapes, None) if ground is not None else np.zeros(len(ours))
    sums |= {
        "area_ours": _beside(area_ours, len(reference)),
        "area_ours_hit": _beside(areas(hits_of_us, shapes, None), len(reference)),
        "area_reference": _beside(areas(counted, theirs, None), len(ours), before=True),
        "area_shared": _beside(areas(counted, theirs, shapes[compared]), len(ours), before=True),
        "area_reference_hit": _beside(areas(hits_of_them, theirs, None), len(ours), before=True),
        "area_shared_hit": _beside(areas(hits_of_them, theirs, shapes[hits_of_us]), len(ours), before=True),
    }
    return {name: sums[name] for name in (*COUNTS, *AREAS)}


def _layer(
    comparison: Comparison,
    period: Period,
    table: gpd.GeoDataFrame,
    outcome: npt.NDArray[np.object_],
    matches: npt.NDArray[np.object_],
    pairs: Pairs,
    numbers: npt.NDArray[np.int64],
    others: Geometries,
) -> gpd.GeoDataFrame:
    """The layer of one side; `numbers` are the rows of the pairs, `others` the slumps of the other side."""
    shapes, parameters = table.geometry.to_numpy(), comparison.parameters
    best = {}
    for name in ("iou", "smaller"):
        best[name] = np.zeros(len(table))
        np.maximum.at(best[name], numbers, getattr(pairs, name))
    points = shapely.point_on_surface(shapes)
    areas = shapely.area(shapes)
    classes = size_class_names(parameters.size_classes)
    columns = {
        "id": table["id"].to_numpy(),
        "period": str(period),
        "outcome": outcome,
        "matches": matches,
        "iou": best["iou"],
        "overlap": best["smaller"],
        "shared_m2": area_within(shapes, others),
        "area_m2": areas,
        "size_class": np.array(classes)[np.searchsorted(parameters.size_classes, areas, side="right")],
        "region": _regions(comparison, points, shapes),
        "block": _blocks(points, 1000 * parameters.block_km),
        "start": table["start"].to_numpy(),
        "end": table["end"].to_numpy(),
        "kind": table["kind"].to_numpy(),
        "source": table["source"].to_numpy(),
    }
    frame = pd.DataFrame(columns, index=range(len(table)), columns=list(LAYER_COLUMNS)).astype(LAYER_COLUMNS)
    return gpd.GeoDataFrame(frame, geometry=shapes, crs=EQUAL_AREA)


def size_class_names(limits: Sequence[float]) -> list[str]:
    """Names of size classes by their limits in m2, ascending."""
    ends = [f"{limit:.10g}" for limit in limits]
    between = [f"{low} to {high} m2" for low, high in pairwise(ends)]
    return [f"below {ends[0]} m2", *between, f"from {ends[-1]} m2"] if ends else ["all"]


def _regions(comparison: Comparison, points: Geometries, shapes: Geometries) -> list[str]:
    extent = comparison.extent
    if extent is not None and (extent["region"] != "").any():
        pairs = pairs_of(shapes, extent.geometry.to_numpy())
        regions = np.full(len(shapes), "", dtype=object)
        for pair in np.argsort(pairs.shared, kind="stable"):  # the largest share comes last and stays
            regions[pairs.one[pair]] = extent["region"].iloc[pairs.other[pair]]
        return regions.tolist()
    return [region_of(None, lon, lat) for lon, lat in to_lonlat(points).tolist()]


def _blocks(points: Geometries, side: float) -> list[str]:
    columns, rows = (np.floor(get(points) / side).astype(int) for get in (shapely.get_x, shapely.get_y))
    return [f"{column} {row}" for column, row in zip(columns, rows, strict=True)]


def _of_period(comparison: Comparison, period: Period) -> gpd.GeoDataFrame:
    """Our objects of a period; if it has several years, slumps instead of sites."""
    ours = comparison.ours[_applies(comparison.ours, period, 0)].reset_index(drop=True)
    if "slump" not in ours or not comparison.parameters.together:
        return ours
    rows = dict.fromkeys(("kind", "source"), "first") | {"start": "min", "end": "max"}
    merged = ours.drop(columns="id").dissolve("slump", aggfunc=rows).reset_index(names="id")
    return gpd.GeoDataFrame(merged[[*OBJECT_COLUMNS, "geometry"]], crs=EQUAL_AREA)


def _ground(comparison: Comparison, period: Period) -> Geometries | None:
    """Mapped ground as disjoint polygons, None if it is not known."""
    extent = comparison.extent
    if extent is None:
        return None
    rows = extent[_applies(extent, period, comparison.parameters.year_tolerance)]
    return _joined(rows.geometry.to_numpy())


def _joined(shapes: Geometries) -> Geometries:
    """The union of shapes as disjoint polygons."""
    return np.asarray(shapely.get_parts(shapely.union_all(shapes)), dtype=object)


def _covered(shapes: Geometries, ground: Geometries | None, least: float) -> Flags:
    """Whether at least a share of each shape lies on ground; False if it is not known."""
    if ground is None:
        return np.zeros(len(shapes), dtype=bool)
    return area_within(shapes, ground) >= least * shapely.area(shapes)


def _pairs_with(shapes: Geometries, table: gpd.GeoDataFrame, chosen: Flags) -> Pairs:
    """The pairs of shapes with the chosen rows of a table, by the numbers of the rows."""
    (rows,) = np.nonzero(chosen)
    pairs = pairs_of(shapes, table.geometry.to_numpy()[rows])
    return replace(pairs, other=rows[pairs.other])


def _applies(table: gpd.GeoDataFrame, period: Period, tolerance: int) -> Flags:
    """Whether the dates of each row meet a year of the period; rows without dates apply always."""
    undated = table["start"].isna().to_numpy()
    first = table["start"].dt.year.fillna(0).to_numpy(dtype=int) - tolerance
    last = table["end"].dt.year.fillna(0).to_numpy(dtype=int) + tolerance
    meets = np.zeros(len(table), dtype=bool)
    for year in period.years:
        meets |= (first <= year) & (year <= last)
    return undated | meets | (not period.years)


def _years(table: gpd.GeoDataFrame, tolerance: int) -> set[int]:
    """All years of the dates of a table."""
    dated = table[table["start"].notna()]
    spans = set(zip(dated["start"].dt.year, dated["end"].dt.year, strict=True))
    return {year for first, last in spans for year in range(first - tolerance, last + tolerance + 1)}


def _ids(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64], names: pd.Series, count: int) -> Any:
    """For each of `count` numbers, the names of its partners, separated by commas."""
    texts: list[list[str]] = [[] for _ in range(count)]
    values = names.to_numpy(dtype=object)
    for first, second in zip(one, other, strict=True):
        texts[first].append(values[second])
    return np.array([",".join(sorted(each)) for each in texts], dtype=object)


def _flagged(count: int, numbers: npt.NDArray[np.int64]) -> Flags:
    flags = np.zeros(count, dtype=bool)
    flags[numbers] = True
    return flags


def _beside(values: npt.NDArray[Any], others: int, *, before: bool = False) -> npt.NDArray[np.float64]:
    """Values followed, or preceded, by zeros for the objects of the other side."""
    zeros = np.zeros(others)
    return np.concatenate([zeros, values] if before else [values, zeros]).astype(np.float64)


def _listed(years: Iterable[int]) -> str:
    ordered = sorted(years)
    return f"{ordered[0]} to {ordered[-1]}" if ordered else "no date"
