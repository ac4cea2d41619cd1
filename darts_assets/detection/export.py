"""The files that users take away: rasters, vectors, picture and metadata of one scene."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pyogrio
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import band
from darts_assets.detection.cog import RasterBand, write_cog
from darts_assets.detection.product_selection import bands_of, check_products
from darts_assets.detection.rasterize import binarized_from, extent_from
from darts_assets.plots import thumbnail
from darts_assets.tiles import geobox_of, row_windows

PROBABILITY = RasterBand("probabilities", "uint8", nodata=255, units="percent")
BINARIZED = RasterBand("binarized", "uint8", continuous=False)


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

    Rasters are COGs. `probabilities` holds percent (0..100, 255 outside the valid area), `binarized` 0 and 1, both
    consistent with the vectors, which they are re-made from. Bands and groups of bands hold the stored integers of
    the bands' codecs, with scale, offset and nodata value set, so that GIS programs show physical values. Tables are
    written as GeoPackage and as GeoParquet. Text and numbers of `metadata` go into every file.

    Args:
        folder: an existing, empty, local folder.
        products: names from `DEFAULT_PRODUCTS`, `optical`, `dem` (slope and relative elevation), `tcvis`, or bands.
        probabilities: lazy tile with `probabilities` and maybe `probabilities-NAME`, fractions.
        features: lazy preprocessed tile on the same grid, physical values.
        vectors: tables `segments`, `extent`, and `segments-NAME` per model.
        metadata: provenance and parameters, JSON types; the content of `metadata.json`.
        write_model_outputs: whether `probabilities`, `binarized` and `polygonized` are also written for each model
            whose own probabilities the tile keeps.

    Returns:
        The files of each product.

    Raises:
        SettingsError: for unknown products, or bands that the tile does not have; nothing has been written then.
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
                files[product] = [writer.probability_raster(suffix) for suffix in suffixes]
            case "binarized":
                files[product] = [writer.binarized_raster(suffix) for suffix in suffixes]
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
            case "metadata":
                path = folder / "metadata.json"
                path.write_text(json.dumps(dict(metadata), indent=2), encoding="utf-8")
                files[product] = [path]
            case _:
                files[product] = [writer.feature_raster(product)]
    return files


@dataclass(frozen=True)
class _Writer:
    """What all products of a scene share."""

    folder: Path
    geobox: GeoBox
    probabilities: xr.Dataset
    features: xr.Dataset
    vectors: Mapping[str, gpd.GeoDataFrame]
    tags: Mapping[str, str]

    def probability_raster(self, suffix: str) -> Path:
        codec = band("probabilities")
        extent = extent_from(self.vectors["extent"], self.geobox)

        def windows() -> Iterator[npt.NDArray[np.generic]]:
            for rows in row_windows(self.geobox.shape[0]):
                stored = codec.encode(self.probabilities[f"probabilities{suffix}"].isel(y=rows).values)
                stored[~extent[rows]] = codec.fill
                yield stored[None]

        return self._cog(f"probabilities{suffix}", windows(), [PROBABILITY])

    def binarized_raster(self, suffix: str) -> Path:
        binarized = binarized_from(self.vectors[f"segments{suffix}"], self.geobox).view(np.uint8)
        return self._cog(f"binarized{suffix}", iter([binarized[None]]), [BINARIZED])

    def feature_raster(self, product: str) -> Path:
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
        # A layer has one geometry type, also when it is empty.
        pyogrio.write_dataframe(
            table, geopackage, layer=stem, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True,
            layer_metadata=dict(self.tags),
        )  # fmt: skip
        table.attrs = dict(self.tags)
        table.to_parquet(parquet)
        return [geopackage, parquet]

    def picture(self) -> Path:
        path = self.folder / "thumbnail.jpg"
        thumbnail(self.features, self.vectors).save(path, quality=90, comment=json.dumps(dict(self.tags)))
        return path

    def _cog(self, stem: str, windows: Iterator[npt.NDArray[np.generic]], bands: Sequence[RasterBand]) -> Path:
        return write_cog(self.folder / f"{stem}.tif", windows, self.geobox, bands, self.tags)
