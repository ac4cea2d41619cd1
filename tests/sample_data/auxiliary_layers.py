"""Smooth elevations and trends under a scene, as one ArcticDEM tile and one raster of trends."""

import json
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from darts_assets.bands import TCVIS
from darts_assets.demo.write_cog import write_cog

TRENDS = dict(zip(TCVIS, (90, 120, 150), strict=True))


def write_layers(folder: Path, geobox: GeoBox, resolution: int) -> dict[str, str]:
    """Write the layers; what to set `DARTS_ARCTICDEM` and `DARTS_TCVIS` to, as keyword arguments of `Settings`."""
    terrain = GeoBox.from_bbox(
        geobox.footprint("EPSG:3413", buffer=2000).boundingbox, resolution=resolution, crs="EPSG:3413", anchor="edge"
    )
    rows, cols = np.indices(terrain.shape, dtype="float32") * (resolution / 10)
    dem = (300 + 80 * np.sin(cols / 40) * np.cos(rows / 55) + 0.05 * cols).astype("float32")
    name = "test_tile"
    write_cog(folder / f"{name}_dem.tif", {"dem": dem}, terrain, -9999)
    write_cog(folder / f"{name}_datamask.tif", {"datamask": np.ones(terrain.shape, "uint8")}, terrain, 0)
    (folder / f"{name}.json").write_text(json.dumps({
        "type": "Feature", "stac_version": "1.1.0", "id": name, "stac_extensions": [], "links": [],
        "geometry": None, "properties": {
            "datetime": "2010-01-01T00:00:00Z", "gsd": resolution, "proj:code": "EPSG:3413",
            "proj:shape": list(terrain.shape), "proj:transform": list(terrain.affine)[:6],
            "proj:bbox": list(terrain.boundingbox.bbox),
        },
        "assets": {
            kind: {"href": f"./{name}_{kind}.tif", "nodata": nodata, "data_type": dtype}
            for kind, nodata, dtype in (("dem", -9999, "float32"), ("datamask", 0, "uint8"))
        },
    }))  # fmt: skip
    step = 0.00026949458523585647
    trends = GeoBox.from_bbox(
        geobox.footprint("EPSG:4326", buffer=2000).boundingbox, resolution=step, crs="EPSG:4326", anchor="edge"
    )
    bands = {band: np.full(trends.shape, value, "uint8") for band, value in TRENDS.items()}
    write_cog(folder / "tcvis" / "trends.tif", bands, trends, None)
    return {"arcticdem": str(folder), "tcvis": str(folder / "tcvis" / "trends.tif")}
