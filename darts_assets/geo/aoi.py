"""Areas of interest from vector files."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from darts_assets.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import geopandas as gpd
    from pyproj import CRS
    from shapely.geometry.base import BaseGeometry

    from darts_assets.remote.s3_auth import S3Options

logger = logging.getLogger(__name__)

_GLOBE = 360.0
_RIGHT_ANGLE = 90.0
_COLLECTION = 4  # from this type id on, shapely's geometries consist of others


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


def read_aoi(href: str, s3: "S3Options", layer: str = "") -> AreaOfInterest:
    """All features of a vector file as one area.

    Invalid geometries are repaired, and an edge that spans more than 180 degrees of longitude is assumed to cross the
    antimeridian; both are logged as warnings.

    Args:
        href: a path, `http(s)://...` or `s3://bucket/key` of a file in one of `vector_files.FORMATS`.
        s3: access to `s3://`.
        layer: name of the only layer to read; "" for all layers, which must have the same CRS.

    Raises:
        SettingsError: if the file does not exist, is not a vector file, or has no CRS, no geometry or no such layer, or
            if its layers differ in their CRS or it has coordinates that its CRS does not permit.
        SourceUnavailableError: if a service does not answer after bounded retries.
    """
    import numpy as np
    import shapely
    from pyproj import CRS

    from darts_assets.geo.antimeridian import crosses_antimeridian
    from darts_assets.remote.byte_reader import shown

    subject = f"aoi {shown(href)}"
    tables = read_layers(href, s3, subject)
    if layer and layer not in tables:
        raise SettingsError(
            f"{subject} has no layer {layer!r}; it has {', '.join(tables)}: set aoi_layer to one of them"
        )
    tables = {layer: tables[layer]} if layer else tables
    features = sum(map(len, tables.values()))
    placed = {name: shapes for name, table in tables.items() if len(shapes := _geometries(table))}
    if not placed:
        raise SettingsError(f"{subject} has {features} features and no geometry; polygons were expected")
    for name, shapes in placed.items():
        check_coordinates(shapes, tables[name].crs, f"{subject}, layer {name}" if len(tables) > 1 else subject)
    crss = {name: CRS.from_user_input(tables[name].crs) for name in placed}
    crs = next(iter(crss.values()))
    if any(other != crs for other in crss.values()):
        kinds = ", ".join(f"{name} ({other.name})" for name, other in crss.items())
        raise SettingsError(f"{subject} has layers with different CRSs, {kinds}: choose one of them with aoi_layer")
    if len(placed) > 1:
        logger.info("%s: its layers %s are one area", subject, ", ".join(placed))
    shapes = np.concatenate([_parts(shapes.to_numpy()) for shapes in placed.values()])
    if empty := features - sum(len(shapes) for shapes in placed.values()):
        logger.warning("%s: %d of %d features have no geometry", subject, empty, features)
    crossing = [crs.is_geographic and crosses_antimeridian(shape) for shape in shapes]
    if any(crossing):
        logger.warning(
            "%s: %d geometries have edges of more than 180 degrees of longitude and are assumed to cross the "
            "antimeridian; if this is wrong, split their edges", subject, sum(crossing),
        )  # fmt: skip
        shapes = np.array(
            [_continued(shape) if crosses else shape for shape, crosses in zip(shapes, crossing, strict=True)]
        )
    invalid = ~shapely.is_valid(shapes)
    if invalid.any():
        reason = shapely.is_valid_reason(shapes[invalid][0])
        logger.warning("%s: %d invalid geometries repaired, the first: %s", subject, invalid.sum(), reason)
    return AreaOfInterest(shapely.union_all(shapely.make_valid(shapes)), crs, features)


def read_layers(href: str, s3: "S3Options", subject: str) -> "dict[str, gpd.GeoDataFrame]":
    """The layers of a vector file, by name.

    Args:
        href: as for `read_aoi`.
        s3: access to `s3://`.
        subject: begins the messages, such as `aoi area.gpkg`.

    Raises:
        SettingsError: if the file does not exist or is not a vector file.
        SourceUnavailableError: if a service does not answer after bounded retries.
    """
    from darts_assets.geo.vector_files import vector_layers
    from darts_assets.remote.byte_reader import is_remote, local_path, read_bytes
    from darts_assets.remote.responses import MAX_PAGE_BYTES

    try:
        if not is_remote(href):
            return _by_name(vector_layers(local_path(href).expanduser()))
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, Path(urlsplit(href).path).name or "aoi")
            copy.write_bytes(read_bytes(href, s3, MAX_PAGE_BYTES))
            return _by_name(vector_layers(copy))
    except FileNotFoundError:
        raise SettingsError(f"{subject}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise SettingsError(f"{subject} cannot be read as a vector file: {error}") from error


def _by_name(layers: "Iterator[tuple[str, gpd.GeoDataFrame]]") -> "dict[str, gpd.GeoDataFrame]":
    """Layers by name; files in a zip may have the same."""
    tables: dict[str, gpd.GeoDataFrame] = {}
    for name, table in layers:
        tables[f"{name} ({len(tables) + 1})" if name in tables else name] = table
    return tables


def _geometries(table: "gpd.GeoDataFrame") -> "gpd.GeoSeries":
    """The geometries of a table that are not empty, by the number of their feature, from 1."""
    import geopandas as gpd

    geometry = getattr(table, "geometry", None)  # tables without one have no such attribute
    shapes = gpd.GeoSeries([]) if geometry is None else geometry.set_axis(range(1, len(geometry) + 1))
    return shapes[shapes.notna() & ~shapes.is_empty]


def check_coordinates(shapes: "gpd.GeoSeries", crs: Any, subject: str) -> None:
    """Raise SettingsError without a CRS, and for coordinates beyond the degrees of a geographic one."""
    import numpy as np
    import shapely

    points, index = shapely.get_coordinates(shapes.to_numpy(), return_index=True)
    lon, lat = np.abs(points).T
    (wrong,) = np.nonzero((lon > _GLOBE) | (lat > _RIGHT_ANGLE))
    x, y = points[wrong[0] if len(wrong) else 0]
    in_degrees = not len(wrong) or (abs(x) <= _RIGHT_ANGLE and abs(y) <= _GLOBE)
    coordinates = f"coordinates such as {x:.8g}, {y:.8g}"
    if crs is None and in_degrees:
        raise SettingsError(f"{subject} has no CRS; store it in the file (GeoPackage, .prj)")
    if crs is None:
        raise SettingsError(f"{subject} has {coordinates}, apparently metres, and no CRS; store it in the file (.prj)")
    if not crs.is_geographic or not len(wrong):
        return
    feature = f"{subject}: feature {shapes.index[index[wrong[0]]]}"
    if in_degrees:
        raise SettingsError(f"{feature} has latitude {y:.8g}, outside -90..90. Are longitude and latitude swapped?")
    raise SettingsError(
        f"{feature} has {coordinates}, apparently metres, but the CRS {crs.name}, in degrees; store the right CRS in "
        "the file (GeoPackage, .prj, or the member crs of GeoJSON)"
    )


def _parts(shapes: Any) -> Any:
    """The points, lines and polygons of geometries in two dimensions, at any depth of collections."""
    import shapely

    shapes = shapely.force_2d(shapes)
    while (shapely.get_type_id(shapes) >= _COLLECTION).any():
        shapes = shapely.get_parts(shapes)
    return shapes


def _continued(shape: Any) -> Any:
    """The geometry with western longitudes increased by 360 degrees."""
    import numpy as np
    import shapely

    def turn(points: Any) -> Any:
        return points + np.stack([np.where(points[:, 0] < 0, _GLOBE, 0), np.zeros(len(points))], axis=1)

    return shapely.transform(shape, turn)
