"""Cloud-optimized GeoTIFFs, written in row windows."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from darts_assets.bands import TCVIS, Band, Flag

BLOCK = 512

LEVEL = 4
"""DEFLATE level: half the time of the default level 6, with files of probabilities 0.7 % larger."""

CACHE_MEGABYTES = 256
"""GDAL block cache. GDAL's default is a share of the machine's memory, not of the container's."""


@dataclass(frozen=True, slots=True)
class RasterBand:
    """Metadata of one raster band.

    Attributes:
        name: description, shown by GIS programs.
        dtype: of the stored values.
        nodata: stored value of pixels without data, if any.
        scale: physical value of one stored unit.
        offset: physical value of stored 0.
        units: of physical values.
        continuous: whether overviews average values instead of picking one.
        flags: classes with their colours; a raster of one band gets them as its colour table.
    """

    name: str
    dtype: str
    nodata: int | None = None
    scale: float = 1.0
    offset: float = 0.0
    units: str = ""
    continuous: bool = True
    flags: tuple[Flag, ...] = ()

    @classmethod
    def of(cls, band: Band) -> "RasterBand":
        """Metadata of a band stored in its codec, so that GIS programs show physical values."""
        dtype = "uint8" if band.stored == np.dtype(bool) else band.stored.name
        units = "" if band.units == "1" else band.units
        continuous = band.scale is not None or band.name.startswith("tc_")
        return cls(band.name, dtype, band.fill, band.scale or 1.0, band.offset, units, continuous, band.flags)


def color_interpretation(bands: Sequence[RasterBand]) -> list[ColorInterp]:
    """Red, green and blue for true colour and for TCVIS, a palette for classes, else gray; other bands undefined."""
    names = tuple(band.name for band in bands)
    if names[:3] in (("red", "green", "blue"), TCVIS):
        first = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    else:
        first = [ColorInterp.palette if len(bands) == 1 and bands[0].flags else ColorInterp.gray]
    return first + [ColorInterp.undefined] * (len(bands) - len(first))


def write_cog(
    path: Path,
    windows: Iterable[npt.NDArray[np.generic]],
    geobox: GeoBox,
    bands: Sequence[RasterBand],
    tags: Mapping[str, str],
) -> Path:
    """Write a DEFLATE-compressed COG with overviews and colour interpretation.

    Args:
        path: the file to write.
        windows: stored values (bands, rows, width), from top to bottom without gaps.
        geobox: grid of the raster.
        bands: metadata per band; GeoTIFF requires a common dtype and nodata value.
        tags: metadata of the file.

    Returns:
        `path`.

    Raises:
        ValueError: if the bands differ in `dtype`, `nodata` or `continuous`.
    """
    if len({(band.dtype, band.nodata, band.continuous) for band in bands}) != 1:
        raise ValueError(f"{path.name}: bands differ in dtype or nodata value; one raster needs common ones")
    kind, colors = bands[0], color_interpretation(bands)
    photometric = "RGB" if colors[0] == ColorInterp.red else "MINISBLACK"
    height, width = geobox.shape
    # The COG driver can only copy, since a COG stores overviews before full resolution. The plain file and temporary
    # overviews stay uncompressed.
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder,
        rasterio.Env(GDAL_CACHEMAX=CACHE_MEGABYTES, COG_TMP_COMPRESSION="NONE"),
    ):
        plain = Path(folder) / "plain.tif"
        with rasterio.open(
            plain, "w", driver="GTiff", height=height, width=width, count=len(bands), dtype=kind.dtype,
            nodata=kind.nodata, crs=geobox.crs, transform=geobox.affine, tiled=True, blockxsize=BLOCK,
            blockysize=BLOCK, interleave="band", bigtiff="IF_SAFER", photometric=photometric,
        ) as target:  # fmt: skip
            target.update_tags(**tags)
            target.colorinterp = colors
            if kind.flags:
                target.write_colormap(1, {flag.value: tuple(bytes.fromhex(flag.color[1:])) for flag in kind.flags})
            target.descriptions = [band.name for band in bands]
            target.scales = [band.scale for band in bands]
            target.offsets = [band.offset for band in bands]
            target.units = [band.units for band in bands]
            row = 0
            for values in windows:
                target.write(values, window=Window(0, row, width, values.shape[1]))
                row += values.shape[1]
        rasterio.shutil.copy(
            plain, path, driver="COG", compress="DEFLATE", predictor="YES" if kind.continuous else "NO",
            overview_resampling="AVERAGE" if kind.continuous else "NEAREST", blocksize=BLOCK, bigtiff="IF_SAFER",
            level=LEVEL, num_threads="ALL_CPUS",
        )  # fmt: skip
    return path
