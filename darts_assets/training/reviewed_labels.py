"""Labels from the verdicts of reviewers: slumps and hard negatives around places that people have looked at.

Only the judged sites and a margin around them are labelled: `yes` is slump, `no` is background, and so is the margin.
All other sites of the year, which nobody or nobody for certain has judged (`unsure`) or whose outline is wrong
(`redraw`), are ignored, also within the margin. So is the rest of the scene, where slumps may have been missed.
"""

from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import shapely

from darts_assets.training.labels import BACKGROUND, CRS, IGNORED, SLUMP

_CLASSES = {"yes": SLUMP, "no": BACKGROUND}
"""Verdict -> class; other sites are ignored."""

_NEEDED = ("site_id", "year", "verdict")


@dataclass(frozen=True)
class ReviewedLabels:
    """Labels of a scene.

    Attributes:
        labels: outlines of all sites of the year near the scene, EPSG:4326: `label` (int64: 0 background, 1 slump,
            2 ignored), `label_id` (site id), `verdict`.
        area: the labelled area, one row, EPSG:4326; empty without judged sites.
    """

    labels: gpd.GeoDataFrame
    area: gpd.GeoSeries

    def count(self, verdict: str) -> int:
        """Number of outlines with a verdict."""
        return int((self.labels["verdict"] == verdict).sum())


def reviewed_labels(sites: gpd.GeoDataFrame, year: int, extent: gpd.GeoSeries, margin: float) -> ReviewedLabels:
    """The labels of a scene from the judged sites of its year.

    Args:
        sites: `site_id`, `year`, `verdict` and outlines in a projected CRS in metres, as in `rts_sites`.
        year: year of the scene.
        extent: extent of the scene's tile.
        margin: metres around judged sites that are labelled.
    """
    inside = shapely.union_all(extent.to_crs(sites.crs).to_numpy())
    near = sites[(sites["year"] == year) & sites.geometry.dwithin(inside, margin)]
    classes = near["verdict"].map(_CLASSES).fillna(IGNORED).astype("int64")
    judged = near.geometry[classes != IGNORED].buffer(margin)
    labels = gpd.GeoDataFrame(
        {
            "label": classes.to_numpy(dtype=np.int64),
            "label_id": near["site_id"].to_numpy(),
            "verdict": near["verdict"].to_numpy(),
        },
        geometry=near.geometry.to_crs(CRS).to_numpy(),
        crs=CRS,
    )
    area = gpd.GeoSeries([shapely.union_all(judged.to_numpy())], crs=sites.crs).to_crs(CRS)
    return ReviewedLabels(labels, area)


def lacks_verdicts(sites: gpd.GeoDataFrame) -> bool:
    """Whether a table of sites is of a version without verdicts."""
    return not set(_NEEDED) <= set(sites.columns)
