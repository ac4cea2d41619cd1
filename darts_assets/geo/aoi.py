"""Areas of interest from vector files."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from darts_assets.errors import SettingsError

if TYPE_CHECKING:
    import geopandas as gpd
    from pyproj import CRS
    from shapely.geometry.base import BaseGeometry

    from darts_assets.remote.s3_auth import S3Options

logger = logging.getLogger(__name__)

_GLOBE = 360.0


@dataclass(frozen=True)
class AreaOfInterest:
    """An area of interest.

    Attributes:
        geometry: valid, not empty; longitudes exceed 180 where it crosses the antimeridian.
        crs: its CRS.
        features: number of features of the file.
    """

    geometry: "BaseGeometry"
    crs: "CRS"
    features: int


def read_aoi(href: str, s3: "S3Options") -> AreaOfInterest:
    """All features of a vector file as one area.

    Invalid geometries are repaired, and an edge that spans more than 180 degrees of longitude is assumed to cross the
    antimeridian; both are logged as warnings.

    Args:
        href: a path, `http(s)://...` or `s3://bucket/key` of a file in one of `vector_files.FORMATS`.
        s3: access to `s3://`.

    Raises:
        SettingsError: if the file does not exist, is not a vector file, or has no CRS or no geometry.
        SourceUnavailableError: if a service does not answer after bounded retries.
    """
    import numpy as np
    import shapely
    from pyproj import CRS

    from darts_assets.geo.antimeridian import crosses_antimeridian
    from darts_assets.remote.byte_reader import shown

    table = _read(href, s3)
    geometry = getattr(table, "geometry", None)  # tables without one have no such attribute
    shapes = [] if geometry is None else geometry[geometry.notna() & ~geometry.is_empty].to_numpy()
    if not len(shapes):
        raise SettingsError(f"aoi {shown(href)} has {len(table)} features and no geometry; polygons were expected")
    if table.crs is None:
        raise SettingsError(f"aoi {shown(href)} has no CRS; store it in the file (GeoPackage, .prj)")
    crs = CRS.from_user_input(table.crs)
    shapes = shapely.get_parts(shapely.get_parts(shapely.force_2d(shapes)))
    crossing = [crs.is_geographic and crosses_antimeridian(shape) for shape in shapes]
    if any(crossing):
        logger.warning(
            "aoi %s: %d geometries have edges of more than 180 degrees of longitude and are assumed to cross the "
            "antimeridian; if this is wrong, split their edges", shown(href), sum(crossing),
        )  # fmt: skip
        shapes = np.array(
            [_continued(shape) if crosses else shape for shape, crosses in zip(shapes, crossing, strict=True)]
        )
    invalid = ~shapely.is_valid(shapes)
    if invalid.any():
        reason = shapely.is_valid_reason(shapes[invalid][0])
        logger.warning("aoi %s: %d invalid geometries repaired, the first: %s", shown(href), invalid.sum(), reason)
    return AreaOfInterest(shapely.union_all(shapely.make_valid(shapes)), crs, len(table))


def _read(href: str, s3: "S3Options") -> "gpd.GeoDataFrame":
    from darts_assets.geo.vector_files import read_vector
    from darts_assets.remote.byte_reader import is_remote, local_path, read_bytes, shown

    try:
        if not is_remote(href):
            return read_vector(local_path(href).expanduser())
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, Path(urlsplit(href).path).name or "aoi")
            copy.write_bytes(read_bytes(href, s3))
            return read_vector(copy)
    except FileNotFoundError:
        raise SettingsError(f"aoi {shown(href)}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"aoi {shown(href)} cannot be read as a vector file: {error}") from error


def _continued(shape: Any) -> Any:
    """The geometry with western longitudes increased by 360 degrees."""
    import numpy as np
    import shapely

    def turn(points: Any) -> Any:
        return points + np.stack([np.where(points[:, 0] < 0, _GLOBE, 0), np.zeros(len(points))], axis=1)

    return shapely.transform(shape, turn)
