"""The verdicts of reviewers about sites and slumps, matched by place: they survive rebuilds and new models.

- A verdict is about a site if its outline shares at least `min_overlap` of the smaller one's area with that of the
  site. In a table of slumps, it is about a slump: the outline in the year of the verdict counts, or else the last one
  before, or else the first one after; all sites of the slump have the same verdict.
- A later verdict of a reviewer replaces an earlier one of the same place, by the same rule.
- If a site covers several places with different verdicts of one reviewer, because it has merged, the reviewer counts
  as `unsure` about it, or as `redraw` if all are slumps. A `no` about less than `min_overlap` of a site counts as
  `unsure`: most of the site has not been looked at.
- The most frequent verdict wins; a tie is `unsure`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

from darts_assets.review.review_columns import REJECTED, REVIEW_COLUMNS
from darts_assets.review.verdict_record import PointVerdict, Verdict, unique

_YEARS = 10_000
_SLUMPS = {"yes", "redraw"}

Numbers = npt.NDArray[np.int64]


class JudgeParameters(Protocol):
    """Parameters of the matching, such as those of the inventory."""

    @property
    def min_overlap(self) -> float:
        """Fraction of the smaller one of two outlines that they share if they are of one place."""


@dataclass(frozen=True, slots=True)
class _Vote:
    """A verdict about a place, and whether it is about a sufficient part of it."""

    number: int
    reviewer: str
    verdict: str
    is_part: bool


def verdict_table(verdicts: Iterable[Verdict]) -> gpd.GeoDataFrame:
    """Verdicts as a table.

    Returns:
        `id`, `time` (UTC), `reviewer`, `verdict`, `year` and the valid outline, EPSG:4326, by time.
    """
    ordered = sorted(verdicts, key=lambda each: (each.time, each.id))
    columns = {
        "id": [each.id for each in ordered],
        "time": pd.to_datetime([each.time for each in ordered], utc=True),
        "reviewer": [each.reviewer for each in ordered],
        "verdict": [each.verdict for each in ordered],
        "year": np.array([each.year for each in ordered], dtype=np.int64),
    }
    return gpd.GeoDataFrame(columns, geometry=[each.shape() for each in ordered], crs="EPSG:4326")


def judge(sites: gpd.GeoDataFrame, verdicts: gpd.GeoDataFrame, parameters: JudgeParameters) -> gpd.GeoDataFrame:
    """A table of sites with `REVIEW_COLUMNS` before the geometry; earlier values of these are replaced.

    Args:
        sites: `year` and outlines in an equal-area CRS; with `slump_id`, all sites of a slump are judged together.
        verdicts: result of `verdict_table`.
        parameters: `min_overlap`.
    """
    names = sites["slump_id"] if "slump_id" in sites else pd.RangeIndex(len(sites))
    slump = pd.factorize(names)[0].astype(np.int64)
    projected = _projected(verdicts, sites.crs)
    votes: dict[int, list[_Vote]] = {}
    for verdict, row, share in _matches(sites, slump, projected, verdicts["year"].to_numpy(), parameters.min_overlap):
        reviewer, decided = verdicts["reviewer"].iloc[verdict], verdicts["verdict"].iloc[verdict]
        votes.setdefault(int(slump[row]), []).append(
            _Vote(verdict, reviewer, decided, is_part=share < parameters.min_overlap)
        )
    judged = {number: _decision(_latest(given, projected, parameters.min_overlap)) for number, given in votes.items()}
    rows = [judged.get(int(number), (False, "", 0, np.nan)) for number in slump]
    return _with_columns(sites, pd.DataFrame(rows, columns=list(REVIEW_COLUMNS)))


def judge_slumps(slumps: gpd.GeoDataFrame, judged: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """A table of slumps (`slump_id`) with the `REVIEW_COLUMNS` of their judged sites, before the geometry."""
    of_slump = judged.drop_duplicates("slump_id").set_index("slump_id")[list(REVIEW_COLUMNS)]
    return _with_columns(slumps, of_slump.loc[slumps["slump_id"]])


def review_version(judged: pd.DataFrame, key: str) -> str:
    """Hash of all judgements of a table, which changes only with them; empty if nothing is reviewed.

    Args:
        judged: result of `judge`.
        key: column that names the rows.
    """
    reviewed = judged[judged["reviewed"]]
    lines = sorted(map(str, zip(*(reviewed[name].tolist() for name in (key, *REVIEW_COLUMNS)), strict=True)))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] if lines else ""


def judge_points(verdicts: Iterable[PointVerdict]) -> pd.DataFrame:
    """The verdicts about points of samples, one row per point.

    The latest verdict of each reviewer counts, the most frequent one wins, and a tie is `unsure`.

    Returns:
        `sample_id`, `verdict`, `reviewers` (int64) and `agreement`, by `sample_id`.
    """
    by_point: dict[str, dict[str, str]] = {}
    for each in unique(verdicts):  # by time
        by_point.setdefault(each.sample_id, {})[each.reviewer] = each.verdict
    rows = [(sample_id, *_decision(given)[1:]) for sample_id, given in sorted(by_point.items())]
    kinds = {"sample_id": "str", **{name: REVIEW_COLUMNS[name] for name in ("verdict", "reviewers", "agreement")}}
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)


def _projected(verdicts: gpd.GeoDataFrame, crs: Any) -> npt.NDArray[np.object_]:
    """Valid outlines in a CRS; empty ones of places that it does not contain, such as the other pole."""
    outlines = np.asarray(verdicts.geometry.to_crs(crs).to_numpy(), dtype=object)
    outlines[~np.isfinite(shapely.bounds(outlines)).all(axis=1)] = shapely.Polygon()
    return np.asarray(shapely.make_valid(outlines), dtype=object)


def _with_columns(table: gpd.GeoDataFrame, values: pd.DataFrame) -> gpd.GeoDataFrame:
    others = [name for name in table.columns if name not in REVIEW_COLUMNS and name != "geometry"]
    values = values.astype(REVIEW_COLUMNS)
    complete = table.assign(**{name: values[name].array for name in REVIEW_COLUMNS})
    return complete[[*others, *REVIEW_COLUMNS, "geometry"]]


def _matches(
    sites: gpd.GeoDataFrame, slump: Numbers, verdicts: npt.NDArray[np.object_], years: Numbers, least: float
) -> "Iterable[tuple[int, int, float]]":
    """Numbers of verdicts and of the rows that they are about, and the share of the row's outline, by verdict."""
    outlines = sites.geometry.to_numpy()
    verdict, row = shapely.STRtree(outlines).query(verdicts, predicate="intersects")
    # Of each slump, the row of the year counts, or the nearest one; another row of it may be the one that intersects.
    key = slump * _YEARS + sites["year"].to_numpy(dtype=np.int64)
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    place = np.searchsorted(ordered, slump[row] * _YEARS + years[verdict], side="right") - 1
    is_before = (place >= 0) & (slump[order[place]] == slump[row])
    first = np.searchsorted(ordered, slump[row] * _YEARS, side="left")
    row = order[np.where(is_before, place, np.minimum(first, len(order) - 1))]
    verdict, row = np.unique(np.stack([verdict, row]), axis=1)
    shared = shapely.area(shapely.intersection(verdicts[verdict], outlines[row]))
    own, others = shapely.area(outlines[row]), shapely.area(verdicts[verdict])
    enough = np.flatnonzero(shared >= least * np.minimum(own, others))
    return zip(verdict[enough].tolist(), row[enough].tolist(), (shared / own)[enough].tolist(), strict=True)


def _latest(votes: Sequence[_Vote], outlines: npt.NDArray[np.object_], least: float) -> dict[str, str]:
    """Reviewer -> verdict; a later vote replaces earlier ones of the same place."""
    by_reviewer: dict[str, list[_Vote]] = {}
    for vote in sorted(votes, key=lambda each: each.number):  # verdicts are in the order of time
        earlier = by_reviewer.get(vote.reviewer, [])
        kept = [each for each in earlier if not _same_place(outlines[each.number], outlines[vote.number], least)]
        by_reviewer[vote.reviewer] = [*kept, vote]
    return {reviewer: _of_reviewer(given) for reviewer, given in by_reviewer.items()}


def _of_reviewer(votes: Sequence[_Vote]) -> str:
    verdicts = {"unsure" if vote.verdict == REJECTED and vote.is_part else vote.verdict for vote in votes}
    if len(verdicts) == 1:
        return verdicts.pop()
    return "redraw" if verdicts <= _SLUMPS else "unsure"


def _same_place(one: shapely.Geometry, other: shapely.Geometry, least: float) -> bool:
    shared, *areas = shapely.area([shapely.intersection(one, other), one, other])
    return bool(shared >= least * min(areas))


def _decision(verdicts: dict[str, str]) -> tuple[bool, str, int, float]:
    counts = Counter(verdicts.values()).most_common()
    most = [verdict for verdict, count in counts if count == counts[0][1]]
    verdict = most[0] if len(most) == 1 else "unsure"
    return True, verdict, len(verdicts), sum(each == verdict for each in verdicts.values()) / len(verdicts)
