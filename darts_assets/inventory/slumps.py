"""Sites followed over the years: a slump is named by its site in the first year."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from shapely.geometry.base import BaseGeometry

from darts_assets.geo.equal_area import EQUAL_AREA
from darts_assets.inventory.links import overlapping, shared_area
from darts_assets.inventory.site_changes import with_changes
from darts_assets.inventory.site_parameters import FollowParameters
from darts_assets.inventory.sites import no_sites, observers
from darts_assets.inventory.table_schemas import FOLLOWED_COLUMNS, OBSERVER_COLUMNS, SITE_COLUMNS, SLUMP_COLUMNS


@dataclass(frozen=True, slots=True)
class Followed:
    """Slumps over the years, in EPSG:6931.

    Attributes:
        sites: sites of all years: columns `FOLLOWED_COLUMNS`, `SITE_COLUMNS` and the outline.
        slumps: one row per slump: columns `SLUMP_COLUMNS` and the last outline.
        observers: columns `OBSERVER_COLUMNS`: the scenes that observe a slump in a year without a site of it.
    """

    sites: gpd.GeoDataFrame
    slumps: gpd.GeoDataFrame
    observers: pd.DataFrame


@dataclass
class _Known:
    """Slumps of earlier years.

    Attributes:
        outlines: last outlines of slumps that may continue.
        merged_into: the slumps that others merged into.
        in_vain: the scenes that observe a slump, for each year without a detection of it.
    """

    outlines: dict[str, BaseGeometry] = field(default_factory=dict)
    merged_into: dict[str, str] = field(default_factory=dict)
    in_vain: dict[str, dict[int, set[str]]] = field(default_factory=dict)


def follow(
    sites: Mapping[int, gpd.GeoDataFrame],
    scenes: Mapping[int, gpd.GeoDataFrame],
    observed_of: Callable[[str], gpd.GeoDataFrame],
    parameters: FollowParameters,
) -> Followed:
    """Assign the sites of all years to slumps.

    Year by year, sites are compared with the last outline of every slump, of any earlier year. Of the pairs with
    sufficient overlap, the one with the largest shared area continues the slump. If a slump splits, its other parts
    become new slumps; if slumps merge, the others end. In a year without a site of a slump, the scenes that observe its
    last outline count as observing it. Continued slumps have their change since the year before. With `sensors: apart`,
    the sites of each family are followed on their own.

    Args:
        sites: year -> sites, as in `Inventory.sites`.
        scenes: year -> scenes, as in `Inventory.scenes`.
        observed_of: returns the observed area of a scene.
        parameters: `min_overlap`, `min_coverage`, `stable_share` and `sensors`.
    """
    if parameters.sensors == "together":
        return _follow(sites, scenes, observed_of, parameters)
    groups = sorted({families for table in sites.values() for families in table["families"]}) or [""]
    parts = [
        _follow(
            {year: table[table["families"] == families] for year, table in sites.items()},
            {year: table[table["family"].isin(families.split(","))] for year, table in scenes.items()},
            observed_of,
            parameters,
        )
        for families in groups
    ]
    every = pd.concat([part.sites for part in parts]).sort_values(["year", "site_id"], ignore_index=True)
    slumps = pd.concat([part.slumps for part in parts]).sort_values("slump_id", ignore_index=True)
    looking = pd.concat([part.observers for part in parts]).sort_values(["slump_id", "year"], ignore_index=True)
    return Followed(every, slumps, looking)


def _follow(
    sites: Mapping[int, gpd.GeoDataFrame],
    scenes: Mapping[int, gpd.GeoDataFrame],
    observed_of: Callable[[str], gpd.GeoDataFrame],
    parameters: FollowParameters,
) -> Followed:
    known = _Known()
    years = []
    for year in sorted(sites):
        years.append(_followed(sites[year], known, parameters))
        _look_in_vain(known, year, set(years[-1]["slump_id"]), scenes[year], observed_of, parameters)
    columns = [*FOLLOWED_COLUMNS, *SITE_COLUMNS, "geometry"]
    joined = with_changes(pd.concat([*years, _no_years()], ignore_index=True), parameters.stable_share)
    every = gpd.GeoDataFrame(joined[columns], crs=EQUAL_AREA)
    every = every.astype({**FOLLOWED_COLUMNS, **SITE_COLUMNS})
    return Followed(every, _slumps(every, known), _observers(known))


def _followed(sites: gpd.GeoDataFrame, known: _Known, parameters: FollowParameters) -> gpd.GeoDataFrame:
    """The sites of one year with their slumps; updates `known`."""
    sites = sites.sort_values("site_id", ignore_index=True)
    names, shapes = np.array(list(known.outlines), dtype=object), np.array(list(known.outlines.values()), dtype=object)
    outlines, ids = sites.geometry.to_numpy(), sites["site_id"].to_numpy(dtype=object)
    site, slump = shapely.STRtree(shapes).query(outlines, predicate="intersects")
    shared = shared_area(outlines[site], shapes[slump])
    enough = overlapping(outlines[site], shapes[slump], shared, parameters.min_overlap)
    pairs = pd.DataFrame({"shared": -shared, "site": ids[site], "slump": names[slump]}).iloc[enough]
    pairs = pairs.sort_values(["shared", "site", "slump"])

    slump_of: dict[str, str] = {}
    continued: set[str] = set()
    for one, earlier in zip(pairs["site"], pairs["slump"], strict=True):
        if one not in slump_of and earlier not in continued:
            slump_of[one] = earlier
            continued.add(earlier)
    before: defaultdict[str, list[str]] = defaultdict(list)
    for one, earlier in sorted(zip(pairs["site"], pairs["slump"], strict=True)):
        before[one].append(earlier)
    parts = Counter(pairs["slump"])
    slump_ids = [slump_of.get(one, one) for one in ids]
    for one, earlier in zip(pairs["site"], pairs["slump"], strict=True):
        if earlier not in continued and earlier not in known.merged_into:
            known.merged_into[earlier] = slump_of.get(one, one)
            del known.outlines[earlier]
    known.outlines.update(zip(slump_ids, outlines, strict=True))
    return sites.assign(
        slump_id=slump_ids,
        event=[_event(before[one], parts) for one in ids],
        predecessors=[",".join(before[one]) for one in ids],
    )


def _look_in_vain(
    known: _Known,
    year: int,
    seen: set[str],
    scenes: gpd.GeoDataFrame,
    observed_of: Callable[[str], gpd.GeoDataFrame],
    parameters: FollowParameters,
) -> None:
    """Find the scenes of a year that observe slumps without a site in that year; updates `known`."""
    names = [name for name in known.outlines if name not in seen]
    outlines = np.array([known.outlines[name] for name in names], dtype=object)
    hulls = dict(zip(scenes["scene_id"], scenes.geometry, strict=True))
    for name, looking in zip(names, observers(outlines, hulls, observed_of, parameters.min_coverage), strict=True):
        known.in_vain.setdefault(name, {})[year] = looking


def _event(before: list[str], parts: Mapping[str, int]) -> str:
    split = any(parts[earlier] > 1 for earlier in before)
    if len(before) > 1:
        return "split and merged" if split else "merged"
    return "split" if split else "continued" if before else "new"


def _slumps(sites: gpd.GeoDataFrame, known: _Known) -> gpd.GeoDataFrame:
    ordered = pd.DataFrame(sites).sort_values(["slump_id", "year"])
    first, last = (ordered.drop_duplicates("slump_id", keep=which).set_index("slump_id") for which in ("first", "last"))
    groups = ordered.groupby("slump_id")
    in_vain = [[len(scenes) for scenes in known.in_vain.get(name, {}).values()] for name in first.index]
    table = pd.DataFrame(
        {
            "first_year": first["year"],
            "last_year": last["year"],
            "years_seen": groups.size(),
            "years_observable": groups.size() + [sum(scenes > 0 for scenes in years) for years in in_vain],
            "first_date": groups["first_date"].min(),
            "last_date": groups["last_date"].max(),
            "seen": groups["seen"].sum(),
            "observable": groups["observable"].sum() + [sum(years) for years in in_vain],
            "first_area_ha": first["area_ha"],
            "last_area_ha": last["area_ha"],
            "split_from": first["predecessors"],
            "merged_into": [known.merged_into.get(name, "") for name in first.index],
        }
    )
    shapes = last["geometry"].to_numpy()
    return gpd.GeoDataFrame(table.reset_index().astype(SLUMP_COLUMNS), geometry=shapes, crs=EQUAL_AREA)


def _observers(known: _Known) -> pd.DataFrame:
    rows = [
        (slump, year, ",".join(sorted(scenes)))
        for slump, years in sorted(known.in_vain.items())
        for year, scenes in years.items()
        if scenes
    ]
    return pd.DataFrame(rows, columns=list(OBSERVER_COLUMNS)).astype(OBSERVER_COLUMNS)


def _no_years() -> gpd.GeoDataFrame:
    return no_sites(0).assign(slump_id="", event="", predecessors="")
