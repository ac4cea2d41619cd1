"""Costs of steps over many runs: a table with a row per step and scene, its summary and a chart."""

from darts_assets.timings.chart import chart
from darts_assets.timings.table import COLUMNS, as_markdown, steps_table, summary

__all__ = ["COLUMNS", "as_markdown", "chart", "steps_table", "summary"]
