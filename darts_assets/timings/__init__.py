"""Costs of steps over many runs: tables with a row per step and scene and per scene, a summary and a chart."""

from darts_assets.timings.chart import chart
from darts_assets.timings.results import RESULT_COLUMNS, results_table
from darts_assets.timings.table import COLUMNS, as_markdown, scene_steps, steps_table, summary

__all__ = [
    "COLUMNS",
    "RESULT_COLUMNS",
    "as_markdown",
    "chart",
    "results_table",
    "scene_steps",
    "steps_table",
    "summary",
]
