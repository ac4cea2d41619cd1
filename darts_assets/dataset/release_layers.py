"""The layers of a release: a table as GeoPackage, GeoParquet and QGIS style, with its data dictionary."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyogrio

from darts_assets.qgis_styles import write_category_style

_ROW_GROUP = 4096
_MOMENT = "2000-01-01T00:00:00Z"
_UNITS = (
    ("_ha_per_year", "ha/a"),
    ("_m_per_year", "m/a"),
    ("_km2", "km2"),
    ("_m2", "m2"),
    ("_ha", "ha"),
)
_WHOLE_UNITS = {"lon": "degree", "lat": "degree", "CentroidLon": "degree", "CentroidLat": "degree"}
_KINDS = {"i": "integer", "u": "integer", "f": "number", "b": "boolean", "M": "datetime"}

REDS = ("#ffeda0", "#feb24c", "#fd8d3c", "#fc4e2a", "#e31a1c", "#bd0026", "#800026", "#4d004b")
BLUES = ("#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")
"""Ramps of colours, from few or early to many or late."""

Style = Callable[[Path], Path]
"""Writes the style of a vector file beside it."""


@dataclass(frozen=True)
class Layer:
    """A layer of a release.

    Attributes:
        name: of its files, without suffix; may begin with a folder.
        title: in a line.
        table: rows, with polygons in longitude and latitude.
        descriptions: of all its columns, without the geometry.
        key: column that is unique.
        style: writes its QGIS style.
    """

    name: str
    title: str
    table: gpd.GeoDataFrame
    descriptions: Mapping[str, str]
    key: str | None = None
    style: Style | None = None

    @property
    def fields(self) -> list[dict[str, Any]]:
        """The columns as a Table Schema (https://specs.frictionlessdata.io/table-schema/), with `unit`.

        Raises:
            KeyError: for a column without a description.
        """
        return fields_of(self.table, self.descriptions)


def fields_of(table: pd.DataFrame, descriptions: Mapping[str, str]) -> list[dict[str, Any]]:
    """The columns of a table as fields of a Table Schema; raises KeyError for one without a description."""
    fields: list[dict[str, Any]] = []
    for name, dtype in table.dtypes.items():
        column = str(name)
        if column == "geometry":
            text = "outline, longitude and latitude in degrees (WGS 84), cut at the antimeridian"
            fields.append({"name": column, "type": "geojson", "description": text})
            continue
        unit = _WHOLE_UNITS.get(column) or next((unit for end, unit in _UNITS if column.endswith(end)), None)
        kind = _KINDS.get(getattr(dtype, "kind", "O"), "string")
        fields.append(
            {"name": column, "type": kind, "description": descriptions[column], **({"unit": unit} if unit else {})}
        )
    return fields


def write_layer(folder: Path, layer: Layer) -> Iterator[Path]:
    """Write the files of a layer; the same rows give the same bytes, with the same versions of the libraries."""
    parquet, geopackage = (folder / f"{layer.name}{suffix}" for suffix in (".parquet", ".gpkg"))
    geopackage.parent.mkdir(parents=True, exist_ok=True)
    layer.table.to_parquet(
        parquet, index=False, schema_version="1.1.0", write_covering_bbox=True, compression="zstd",
        row_group_size=_ROW_GROUP,
    )  # fmt: skip
    yield parquet
    with _without_clock():
        pyogrio.write_dataframe(
            layer.table, geopackage, layer=Path(layer.name).name, driver="GPKG", geometry_type="MultiPolygon",
            promote_to_multi=True, layer_options={"IDENTIFIER": layer.title},
        )  # fmt: skip
    yield geopackage
    if layer.style:
        yield layer.style(geopackage)


def style_by(column: str, values: Sequence[int], ramp: Sequence[str]) -> Style:
    """The style with a colour of a ramp for each value of a column."""
    last = max(len(values) - 1, 1)
    colors = {str(value): ramp[round(index * (len(ramp) - 1) / last)] for index, value in enumerate(sorted(values))}
    return partial(write_category_style, column=column, colors=colors, kind="integer")


@contextmanager
def _without_clock() -> Iterator[None]:
    """A GeoPackage has the time of its last change; a constant one makes it reproducible."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": _MOMENT})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
