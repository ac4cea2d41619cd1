"""Samples and estimates in a store, as GeoParquet, GeoPackage and CSV."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import geopandas as gpd
import obstore
import pandas as pd
import pyogrio

from darts_assets.area_estimation.area_estimate import AreaReport
from darts_assets.stores.publish import Manifest, Place, Version
from darts_assets.stores.vectors import read_table, write_table

POINTS, STRATA = "points", "strata"
"""Names of the tables of a sample."""

PICTURES, PICTURES_FILE = "pictures", "pictures.zip"
"""Table and file of the pictures of the points."""

TO_REVIEW = "to_review"
"""Name of the GeoPackage of the points without their strata, for reviewers."""


def write_sample(
    place: Place,
    points: gpd.GeoDataFrame,
    strata: gpd.GeoDataFrame,
    metadata: Mapping[str, Any],
    more: Callable[[Version], list[str]] = lambda version: [],
) -> Manifest:
    """Publish a sample.

    `points.parquet`, `strata.parquet`, `strata.gpkg` and `strata.csv`; `to_review.gpkg` has the points in longitude and
    latitude, without their strata, with empty columns `verdict`, `reviewer` and `note` to be filled in.

    Args:
        place: of the sample.
        points: of `draw_sample`.
        strata: of `draw_sample`.
        metadata: of the manifest, with `inventory_version`.
        more: writes further files into the version, and returns their names.
    """
    with place.new_version() as version:
        files = [write_table(version, POINTS, points), write_table(version, STRATA, strata)]
        files.append(_geopackage(version, STRATA, strata, "MultiPolygon"))
        files.append(_csv(version, STRATA, strata.drop(columns="geometry")))
        form = points[["sample_id", "year", "lon", "lat", "geometry"]].to_crs("EPSG:4326")
        form = form.assign(verdict="", reviewer="", note="", inventory_version=metadata["inventory_version"])
        files.append(_geopackage(version, TO_REVIEW, form, "Point"))
        files += more(version)
        manifest = Manifest(dict.fromkeys(files, version.id), dict(metadata))
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest


def read_sample(place: Place, manifest: Manifest) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """The points and the strata of a sample.

    Raises:
        NotReadableError: if the version has been replaced in the meantime.
    """
    return read_table(place, manifest, POINTS), read_table(place, manifest, STRATA)


def write_estimate(place: Place, report: AreaReport, metadata: Mapping[str, Any]) -> Manifest:
    """Publish a report.

    `area.csv`, `accuracy.csv`, `strata.csv`, `error_matrix.csv`, and `points` with their verdicts as `.gpkg` and
    `.parquet`.
    """
    tables = {
        "area": report.areas,
        "accuracy": report.accuracies,
        "strata": report.strata,
        "error_matrix": report.matrix,
    }
    with place.new_version() as version:
        files = [_csv(version, name, table) for name, table in tables.items()]
        files += [write_table(version, POINTS, report.points), _geopackage(version, POINTS, report.points, "Point")]
        manifest = Manifest(dict.fromkeys(files, version.id), dict(metadata))
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest


def _csv(version: Version, name: str, table: pd.DataFrame) -> str:
    content = table.to_csv(index=False, float_format="%.6f").encode()
    obstore.put(version.location.objects(), f"{name}.csv", content)
    return f"{name}.csv"


def _geopackage(version: Version, name: str, table: gpd.GeoDataFrame, kind: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.gpkg"
        pyogrio.write_dataframe(
            table, path, layer=name, driver="GPKG", geometry_type=kind, promote_to_multi=kind != "Point"
        )
        obstore.put(version.location.objects(), path.name, path)
    return path.name
