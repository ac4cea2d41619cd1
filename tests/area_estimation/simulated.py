"""Simulated slumps, an inventory of them with known damage, and the verdicts of a reviewer who knows the truth."""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from darts_assets.area_estimation.area_estimate import AreaReport, area_report
from darts_assets.area_estimation.area_sample_parameters import SampleParameters
from darts_assets.area_estimation.sample_points import draw_sample
from darts_assets.area_estimation.strata import strata_of

CRS = "EPSG:6931"
CORNER = (-1_750_000.0, 1_750_000.0)  # in EPSG:6931, near 67.6 N, 135 W


@dataclass(frozen=True)
class Landscape:
    """How slumps and their inventory are simulated.

    Attributes:
        side: of the area, metres.
        slumps: their number.
        median_m2: median of their areas.
        missed: fraction of slumps that the inventory lacks.
        invented: number of false outlines, as a fraction of the number of slumps.
        shift: standard deviation of the position of outlines, metres.
    """

    side: float = 12_000
    slumps: int = 150
    median_m2: float = 9_000
    missed: float = 0.2
    invented: float = 0.25
    shift: float = 15


def _blobs(random: np.random.Generator, count: int, landscape: Landscape) -> np.ndarray:
    places = np.array(CORNER) + random.uniform(0, landscape.side, (count, 2))
    areas = landscape.median_m2 * np.exp(random.normal(0, 0.8, count))
    angles = np.linspace(0, 2 * np.pi, 25)[:-1]
    radii = np.sqrt(areas / np.pi)[:, None] * (1 + 0.3 * np.sin(2 * angles + random.uniform(0, 6, (count, 1))))
    rings = places[:, None] + radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return shapely.polygons(rings)


def simulated(
    random: np.random.Generator, landscape: Landscape
) -> tuple[shapely.Geometry, shapely.Geometry, gpd.GeoDataFrame]:
    """The observed area, the true slumps in it, and the sites of the inventory."""
    x, y = CORNER
    observed = shapely.box(x, y, x + landscape.side, y + landscape.side)
    truth = _blobs(random, landscape.slumps, landscape)
    seen = truth[random.uniform(size=len(truth)) >= landscape.missed]
    moves = random.normal(0, landscape.shift, (len(seen), 2))
    outlines = [
        shapely.transform(one, lambda points, move=move: points + move) for one, move in zip(seen, moves, strict=True)
    ]
    false = _blobs(random, round(landscape.invented * landscape.slumps), landscape)
    probability = np.concatenate([random.uniform(0.6, 0.98, len(seen)), random.uniform(0.5, 0.8, len(false))])
    sites = gpd.GeoDataFrame({"mean_probability": probability}, geometry=[*outlines, *false], crs=CRS)
    return observed, shapely.intersection(shapely.union_all(truth), observed), sites


def verdicts_by(truth: shapely.Geometry, points: gpd.GeoDataFrame) -> pd.DataFrame:
    """What a reviewer who knows the truth decides."""
    shapely.prepare(truth)
    inside = shapely.contains_xy(truth, points.geometry.x, points.geometry.y)
    return pd.DataFrame(
        {"sample_id": points["sample_id"], "verdict": np.where(inside, "yes", "no"), "reviewers": 1, "agreement": 1.0}
    )


def estimated(
    random: np.random.Generator, landscape: Landscape, parameters: SampleParameters
) -> tuple[AreaReport, float]:
    """The report of a simulated inventory, and the true area in hectares."""
    observed, truth, sites = simulated(random, landscape)
    points, strata = draw_sample(strata_of(observed, sites, parameters), 2023, parameters)
    return area_report(points, strata, verdicts_by(truth, points)), shapely.area(truth) / 1e4
