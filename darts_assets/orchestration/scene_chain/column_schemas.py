"""The columns of the vector assets, as Dagster shows them."""

import dagster as dg

from darts_assets.orchestration.core.metadata import as_metadata


def _schema(*columns: tuple[str, str, str]) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(name, dtype, description) for name, dtype, description in columns])


_OUTLINE = "Outline of the pixels, in the CRS of the scene: a Polygon, or a MultiPolygon whose parts meet at corners."

SEGMENTS = _schema(
    ("Region_ID", "int64", "1 to n, in row-major order of the objects' first pixels."),
    ("touches_edge", "bool", "A pixel has a neighbour outside of the valid area: there may be more of the slump."),
    ("min", "float64", "Lowest probability of the object's pixels, 0 to 1."),
    ("max", "float64", "Highest probability."),
    ("mean", "float64", "Mean probability."),
    ("median", "float64", "Median of the probabilities."),
    ("std", "float64", "Standard deviation of the probabilities, of the population."),
    ("npixel", "int64", "Pixels of the object."),
    ("geometry", "geometry", _OUTLINE),
)
"""Of detected thaw slumps, a row for each."""

EXTENT = _schema(
    ("npixel", "int64", "Pixels of the area."),
    ("area_m2", "float64", "Its area in square metres."),
    ("geometry", "geometry", _OUTLINE),
)
"""Of the valid area, a row for each 8-connected part."""

COLUMNS = as_metadata({"dagster/column_schema": dg.MetadataValue.table_schema(SEGMENTS),
                       "extent_columns": dg.MetadataValue.table_schema(EXTENT)})  # fmt: skip
"""Metadata of the assets that hold both tables."""


def names(schema: dg.TableSchema) -> list[str]:
    """The names of its columns."""
    return [column.name for column in schema.columns]
