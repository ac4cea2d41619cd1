"""Verdicts for tests."""

import json
import uuid
from typing import Any

import geopandas as gpd
import shapely

from darts_assets.review.verdict_record import PointVerdict, Verdict

SQUARE = [[[-135.0, 68.5], [-134.9, 68.5], [-134.9, 68.6], [-135.0, 68.6], [-135.0, 68.5]]]


def record(**values: Any) -> dict[str, Any]:
    """A valid record, with some values replaced."""
    return {
        "id": str(uuid.uuid4()),
        "time": "2026-07-01T12:00:00Z",
        "reviewer": "Ada",
        "verdict": "yes",
        "note": "",
        "slump_id": "rts-2023-68.5500N-134.9500W",
        "site_id": "rts-2024-68.5500N-134.9500W",
        "year": 2024,
        "outline": {"type": "Polygon", "coordinates": SQUARE},
        "mean_probability": 0.75,
        "inventory_version": "20261130T120000Z-00000000",
        **values,
    }


def point_record(**values: Any) -> dict[str, Any]:
    """A valid record about a point of a sample, with some values replaced."""
    return {
        "id": str(uuid.uuid4()),
        "time": "2026-07-01T12:00:00Z",
        "reviewer": "Ada",
        "verdict": "yes",
        "note": "",
        "sample_id": "area-2024-1-0123ab-0001",
        "point": [-134.95, 68.55],
        "year": 2024,
        "inventory_version": "20261130T120000Z-00000000",
        **values,
    }


def point_verdict(**values: Any) -> PointVerdict:
    return PointVerdict.model_validate(point_record(**values))


def verdict(**values: Any) -> Verdict:
    return Verdict.model_validate(record(**values))


def about(outline: shapely.Geometry, decided: str = "yes", crs: int | str = 6931, **values: Any) -> Verdict:
    """A verdict about an outline in a projected CRS."""
    (lonlat,) = gpd.GeoSeries([outline], crs=crs).to_crs(4326)
    return verdict(verdict=decided, outline=json.loads(shapely.to_geojson(lonlat)), **values)
