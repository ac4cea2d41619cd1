"""Write Cloud Optimized GeoTIFFs."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox


def write_cog(
    path: Path, bands: dict[str, npt.NDArray[Any]], geobox: GeoBox, nodata: float | None, overviews: str = "average"
) -> None:
    """Write equally typed bands to one tiled, compressed COG with overviews, each band's name as its description."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = next(iter(bands.values()))
    with (
        rasterio.MemoryFile() as memory,
        memory.open(
            driver="GTiff", height=geobox.shape[0], width=geobox.shape[1], count=len(bands), dtype=first.dtype,
            crs=str(geobox.crs), transform=geobox.affine, nodata=nodata,
        ) as plain,
    ):  # fmt: skip
        for number, (name, values) in enumerate(bands.items(), start=1):
            plain.write(values, number)
            plain.set_band_description(number, name)
        rasterio.shutil.copy(
            plain, path, driver="COG", compress="DEFLATE", level=3, predictor=_predictor(first.dtype), blocksize=512,
            overview_resampling=overviews, num_threads=2,
        )  # fmt: skip


def _predictor(dtype: np.dtype[Any]) -> str:
    return "FLOATING_POINT" if dtype.kind == "f" else "STANDARD"
