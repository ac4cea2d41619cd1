"""The result of a comparison in a store: tables, layers with styles, and a chart."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import obstore
import pyogrio
from PIL.Image import Image

from darts_assets.qgis_styles import write_category_style
from darts_assets.stores.publish import Manifest, Place
from darts_assets.stores.vectors import write_table
from darts_assets.validation.accuracy_figures import Accuracy
from darts_assets.validation.outcomes import OUTCOMES_OF_OURS, OUTCOMES_OF_REFERENCE

COLORS = {
    "hit": "#2e8b57",
    "false_alarm": "#d7301f",
    "miss": "#ff7f00",
    "on_negative": "#8b1a1a",
    "not_observed": "#6a8caf",
    "other_date": "#984ea3",
    "on_ignored": "#b8a200",
    "unmapped": "#a0a0a0",
    "clear_negative": "#90c090",
}
"""Outcome -> colour of the layers."""

CHART = "accuracy.png"


def write_accuracy(place: Place, result: Accuracy, chart: Image, metadata: Mapping[str, Any]) -> Manifest:
    """Publish a comparison.

    `ours` and `reference` as `.parquet`, `.gpkg` and `.qml`, the tables as `.csv`, and the chart as `accuracy.png`.

    Args:
        place: destination.
        result: of the comparison.
        chart: of the result.
        metadata: of the manifest.
    """
    layers = {"ours": (result.ours, OUTCOMES_OF_OURS), "reference": (result.reference, OUTCOMES_OF_REFERENCE)}
    with place.new_version() as version, tempfile.TemporaryDirectory() as folder:
        files = [write_table(version, name, table) for name, (table, _) in layers.items()]
        paths = []
        for name, (table, outcomes) in layers.items():
            path = Path(folder, f"{name}.gpkg")
            # A GeoPackage layer declares one geometry type, even if it is empty.
            pyogrio.write_dataframe(
                table, path, layer=name, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True
            )
            paths += [path, write_category_style(path, "outcome", {each: COLORS[each] for each in outcomes})]
        for name, figures in result.tables.items():
            paths.append(Path(folder, f"{name}.csv"))
            figures.to_csv(paths[-1], index=False, float_format="%.6g")
        paths.append(Path(folder, CHART))
        chart.save(paths[-1])
        for path in paths:
            obstore.put(version.location.objects(), path.name, path)
            files.append(path.name)
        manifest = Manifest(dict.fromkeys(files, version.id), dict(metadata))
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest
