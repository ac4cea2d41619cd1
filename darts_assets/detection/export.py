"""Exported products of a scene: selection, writing of rasters, tables, thumbnail and metadata, and description."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pyogrio
import rasterio
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import CRS
from shapely.geometry import mapping

from darts_assets.bands import OPTICAL, PERCENT, TCVIS, TERRAIN, band
from darts_assets.detection.chips import CHIPS_FILE, write_chips
from darts_assets.detection.cog import RasterBand, write_cog
from darts_assets.detection.detection_parameters import DEFAULT_PRODUCTS
from darts_assets.detection.vectorize import mask_from
from darts_assets.errors import SettingsError
from darts_assets.geo.antimeridian import lonlat_area
from darts_assets.geo.geodesic import geodesic_areas
from darts_assets.plots import scene_picture
from darts_assets.qgis_styles import write_raster_style, write_vector_style
from darts_assets.tiles import geobox_of, row_windows

RASTER_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"optical": ("red", "green", "blue", "nir"), "dem": ("slope", "relative_elevation"), "tcvis": TCVIS}
)
"""Products with several bands in one raster; `dem` is therefore not the elevation band."""

SINGLE_BANDS = (
    *OPTICAL,
    "ndvi",
    *TERRAIN,
    *TCVIS,
    "arcticdem_data_mask",
    "quality_data_mask",
    "s2_scl",
    "planet_udm",
)
"""Products with a single band, of the same name."""

PROBABILITY = RasterBand("probabilities", "uint8", nodata=255, units="percent")
NOT_SEEN = 255
"""Value of `binarized` outside the valid area."""

_FLAGS = band("binarized_segmentation").flags
BINARIZED = RasterBand("binarized", "uint8", nodata=NOT_SEEN, continuous=False, flags=_FLAGS)

_FOOTPRINT_PRECISION = 1e-6  # degrees: a tenth of a metre


def bands_of(product: str) -> tuple[str, ...]:
    """Bands of the preprocessed tile that a product needs."""
    if product in ("thumbnail", "chips"):
        return ("red", "green", "blue")
    if product in SINGLE_BANDS:
        return (product,)
    return RASTER_GROUPS.get(product, ())


def check_products(products: Sequence[str], bands: Iterable[str] | None = None) -> None:
    """Check the names of products, and that the tile has their bands.

    Args:
        products: names of products.
        bands: bands of the tile; by default only names are checked.

    Raises:
        SettingsError: for an unknown product, or one whose bands the tile lacks.
    """
    known = (*DEFAULT_PRODUCTS, *RASTER_GROUPS)
    unknown = [name for name in products if name not in known and name not in SINGLE_BANDS]
    if unknown:
        raise SettingsError(
            f"unknown product(s) {', '.join(unknown)}; available: {', '.join(known)}, "
            f"or a single band: {', '.join(SINGLE_BANDS)}"
        )
    if bands is None:
        return
    present = set(bands)
    for product in products:
        missing = [band for band in bands_of(product) if band not in present]
        if missing:
            raise SettingsError(
                f"product {product} needs band(s) {', '.join(missing)}; the tile has {', '.join(sorted(present))}"
            )


def export(
    folder: Path,
    products: Sequence[str],
    *,
    probabilities: xr.Dataset,
    features: xr.Dataset,
    vectors: Mapping[str, gpd.GeoDataFrame],
    metadata: Mapping[str, Any],
    write_model_outputs: bool = False,
) -> dict[str, list[Path]]:
    """Write the products of one scene.

    Rasters are COGs. `probabilities` holds percent (0..100, 255 outside the valid area), `binarized` 0 and 1 (255
    outside); both agree with the polygons. Rasters of feature bands hold the integers of the band codecs, with scale,
    offset and nodata value, so that GIS programs show physical values. Tables are written as GeoPackage and as
    GeoParquet. A QGIS style (`.qml`) is beside each raster and table. Each file carries the texts and numbers of
    `metadata`.

    Args:
        folder: an existing, empty, local folder.
        products: names from `DEFAULT_PRODUCTS`, `optical`, `dem` (slope and relative elevation), `tcvis`, or bands.
        probabilities: lazy tile with `probabilities` and optionally `probabilities-NAME`, fractions.
        features: lazy preprocessed tile on the same grid, physical values.
        vectors: tables `segments`, `extent`, and `segments-NAME` per model, as of `product_tables`.
        metadata: provenance and parameters (JSON types), written as `metadata.json`.
        write_model_outputs: write `probabilities`, `binarized` and `polygonized` also for each model of an ensemble
            whose own probabilities are in the tile.

    Returns:
        The files of each product.

    Raises:
        SettingsError: for unknown products or missing bands, before anything is written.
        ValueError: if probabilities and features are on different grids.
    """
    check_products(products, map(str, features.data_vars))
    geobox = geobox_of(probabilities)
    if geobox_of(features) != geobox:
        raise ValueError("probabilities and features are on different grids")
    suffixes = [""]
    if write_model_outputs:
        names = map(str, probabilities.data_vars)
        suffixes += [name.removeprefix("probabilities") for name in names if name.startswith("probabilities-")]
    tags = {key: str(value) for key, value in metadata.items() if isinstance(value, str | int | float)}
    writer = _Writer(folder, geobox, probabilities, features, vectors, tags)

    files: dict[str, list[Path]] = {}
    for product in dict.fromkeys(products):
        match product:
            case "probabilities":
                files[product] = [path for suffix in suffixes for path in writer.probability_raster(suffix)]
            case "binarized":
                files[product] = [path for suffix in suffixes for path in writer.binarized_raster(suffix)]
            case "polygonized":
                files[product] = [
                    path
                    for suffix in suffixes
                    for path in writer.table(f"segments{suffix}", f"prediction_segments{suffix}")
                ]
            case "extent":
                files[product] = writer.table("extent", "prediction_extent")
            case "thumbnail":
                files[product] = [writer.picture()]
            case "chips":
                segments, values = vectors["segments"], probabilities["probabilities"]
                files[product] = [write_chips(folder / CHIPS_FILE, features, segments, values)]
            case "metadata":
                path = folder / "metadata.json"
                path.write_text(json.dumps(dict(metadata), indent=2), encoding="utf-8")
                files[product] = [path]
            case _:
                files[product] = writer.feature_raster(product)
    return files


@dataclass(frozen=True)
class _Writer:
    """Writes the products of one scene."""

    folder: Path
    geobox: GeoBox
    probabilities: xr.Dataset
    features: xr.Dataset
    vectors: Mapping[str, gpd.GeoDataFrame]
    tags: Mapping[str, str]

    def probability_raster(self, suffix: str) -> list[Path]:
        extent = mask_from(self.vectors["extent"], self.geobox)

        def windows() -> Iterator[npt.NDArray[np.generic]]:
            for rows in row_windows(self.geobox.shape[0]):
                stored = PERCENT.encode(self.probabilities[f"probabilities{suffix}"].isel(y=rows).values)
                stored[~extent[rows]] = PERCENT.fill
                yield stored[None]

        return self._cog(f"probabilities{suffix}", windows(), [PROBABILITY])

    def binarized_raster(self, suffix: str) -> list[Path]:
        binarized = mask_from(self.vectors[f"segments{suffix}"], self.geobox).view(np.uint8)
        binarized[~mask_from(self.vectors["extent"], self.geobox)] = NOT_SEEN
        return self._cog(f"binarized{suffix}", iter([binarized[None]]), [BINARIZED])

    def feature_raster(self, product: str) -> list[Path]:
        codecs = [band(name) for name in bands_of(product)]
        described = [RasterBand.of(codec) for codec in codecs]

        def windows() -> Iterator[npt.NDArray[np.generic]]:
            for rows in row_windows(self.geobox.shape[0]):
                stored = [codec.encode(self.features[codec.name].isel(y=rows).values) for codec in codecs]
                yield np.stack(stored).astype(described[0].dtype, copy=False)

        return self._cog(product, windows(), described)

    def table(self, name: str, stem: str) -> list[Path]:
        table = self.vectors[name].copy(deep=False)
        geopackage, parquet = self.folder / f"{stem}.gpkg", self.folder / f"{stem}.parquet"
        # A GeoPackage layer declares one geometry type, even if it is empty.
        pyogrio.write_dataframe(
            table, geopackage, layer=stem, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True,
            layer_metadata=dict(self.tags),
        )  # fmt: skip
        table.attrs = dict(self.tags)
        table.to_parquet(parquet)
        return [geopackage, parquet, write_vector_style(geopackage)]

    def picture(self) -> Path:
        path = self.folder / "thumbnail.jpg"
        scene_picture(self.features, self.vectors).save(path, quality=90, comment=json.dumps(dict(self.tags)))
        return path

    def _cog(self, stem: str, windows: Iterator[npt.NDArray[np.generic]], bands: Sequence[RasterBand]) -> list[Path]:
        path = write_cog(self.folder / f"{stem}.tif", windows, self.geobox, bands, self.tags)
        return [path, write_raster_style(path, [each.name for each in bands])]


def describe(folder: Path, geobox: GeoBox, vectors: Mapping[str, gpd.GeoDataFrame]) -> dict[str, Any]:
    """Describe exported products, so that a catalog need not open them.

    Args:
        folder: the folder written by `export`.
        geobox: grid of the rasters.
        vectors: tables `segments` and `extent`.

    Returns:
        JSON types: `grid` with `crs` (`EPSG:...`), `shape` (rows, columns) and affine `transform` (6 numbers, row by
        row); `footprint` (GeoJSON); `summary`; `files` with `bytes`, `sha256`, and `bands` of rasters, `rows` of
        tables, `columns` of GeoParquet, `layer` of GeoPackage.
    """
    return {
        "grid": {
            "crs": f"EPSG:{CRS(str(geobox.crs)).to_epsg()}",
            "shape": [int(side) for side in geobox.shape],
            "transform": [float(number) for number in tuple(geobox.affine)[:6]],
        },
        "footprint": footprint(vectors["extent"], geobox),
        "summary": summary(vectors["segments"], vectors["extent"]),
        "files": {path.name: _file(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }


def summary(objects: gpd.GeoDataFrame, extent: gpd.GeoDataFrame) -> dict[str, float]:
    """Number and areas of a scene's detections and valid area; all areas are geodesic, on the WGS 84 ellipsoid.

    Args:
        objects: detections, in a projected CRS in metres.
        extent: the valid area.

    Returns:
        `objects`; `area_ha`, their area; `extent_km2`, the valid area; `clear_km2`, its clear part (absent if a version
        without `clear_fraction` made the table).
    """
    areas = geodesic_areas(extent)
    clear = {"clear_km2": round(float(areas @ extent["clear_fraction"]) / 1e6, 3)} if "clear_fraction" in extent else {}
    return {
        "objects": len(objects),
        "area_ha": round(float(geodesic_areas(objects).sum()) / 1e4, 3),
        "extent_km2": round(float(areas.sum()) / 1e6, 3),
        **clear,
    }


def footprint(extent: gpd.GeoDataFrame, geobox: GeoBox) -> dict[str, Any]:
    """The convex hull of the valid area (of the grid, if that is empty) in EPSG:4326, cut at the antimeridian.

    Returns:
        A GeoJSON Polygon or MultiPolygon, outer rings counterclockwise, rounded to a tenth of a metre.
    """
    valid = shapely.geometrycollections(extent.geometry.to_numpy()) if len(extent) else geobox.extent.geom
    parts = lonlat_area(shapely.convex_hull(valid), CRS(str(geobox.crs)))
    rounded = shapely.orient_polygons(shapely.set_precision(parts, _FOOTPRINT_PRECISION))
    pieces = shapely.get_parts(rounded)
    return dict(mapping(pieces[0] if len(pieces) == 1 else rounded))


def _file(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        facts: dict[str, Any] = {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
    if path.suffix == ".tif":
        return facts | {"bands": _bands(path)}
    if path.suffix == ".gpkg":
        info = pyogrio.read_info(path)
        return facts | {"layer": info["layer_name"], "rows": int(info["features"])}
    if path.suffix == ".parquet":
        table = pq.ParquetFile(path)
        columns = [{"name": field.name, "type": str(field.type)} for field in table.schema_arrow]
        return facts | {"rows": table.metadata.num_rows, "columns": columns}
    return facts


def _bands(path: Path) -> list[dict[str, Any]]:
    with rasterio.open(path) as raster:
        described = zip(
            raster.descriptions, raster.dtypes, raster.nodatavals, raster.scales, raster.offsets, raster.units,
            strict=True,
        )  # fmt: skip
        return [
            {
                "name": name,
                "data_type": dtype,
                **({} if nodata is None else {"nodata": int(nodata)}),
                "scale": scale,
                "offset": offset,
                **({"unit": unit} if unit else {}),
            }
            for name, dtype, nodata, scale, offset, unit in described
        ]
