import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from geopandas.testing import assert_geodataframe_equal
from odc.geo.geobox import GeoBox
from PIL import Image
from rio_cogeo.cogeo import cog_validate
from shapely.geometry import shape

from darts_assets.bands import FEATURES, TCVIS, band
from darts_assets.detection import DEFAULT_PRODUCTS, PostprocessParameters
from darts_assets.detection.chips import read_directory
from darts_assets.detection.export import check_products, describe, export, footprint, summary
from darts_assets.detection.postprocess import postprocess
from darts_assets.detection.vectorize import extent_polygons, segments
from darts_assets.errors import SettingsError
from darts_assets.geo.antimeridian import lonlat_area
from darts_assets.plots import DETECTION_COLOR, EXTENT_COLOR, HATCH_COLOR, thumbnail
from darts_assets.tiles import geobox_of, on_grid

from .conftest import detections_of

METADATA = {
    "scene": "SYNTH",
    "code_version": "0.1.0",
    "threshold": 0.5,
    "models": [{"file": "small.pt", "sha256": "abc"}],
    "export_date": "2025-07-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory, probabilities, features, vectors):
    """Every product there is, and the folder they are in."""
    folder = tmp_path_factory.mktemp("products")
    products = [*DEFAULT_PRODUCTS, "optical", "dem", "tcvis", "ndvi", "curvature", "quality_data_mask", "ndvi"]
    files = export(
        folder,
        products,
        probabilities=probabilities,
        features=features,
        vectors=vectors,
        metadata=METADATA,
        write_model_outputs=True,
    )
    return folder, files


def test_files_are_those_promised(exported):
    folder, files = exported
    both = ("probabilities", "binarized")
    vectors = [f"prediction_segments{model}.{kind}" for model in ("", "-tcvis") for kind in ("gpkg", "parquet", "qml")]
    assert {product: [path.name for path in paths] for product, paths in files.items()} == {
        **{name: [f"{name}{model}.{kind}" for model in ("", "-tcvis") for kind in ("tif", "qml")] for name in both},
        "polygonized": vectors,
        "extent": ["prediction_extent.gpkg", "prediction_extent.parquet", "prediction_extent.qml"],
        "thumbnail": ["thumbnail.jpg"],
        "chips": ["chips.zip"],
        "metadata": ["metadata.json"],
        **{
            name: [f"{name}.tif", f"{name}.qml"]
            for name in ("optical", "dem", "tcvis", "ndvi", "curvature", "quality_data_mask")
        },
    }
    # Nothing else is left behind.
    assert sorted(folder.iterdir()) == sorted(path for paths in files.values() for path in paths)


def test_probabilities_are_rounded_percent(exported, detections):
    for suffix in ("", "-tcvis"):
        with rasterio.open(exported[0] / f"probabilities{suffix}.tif") as raster:
            percent = raster.read(1)
            assert (raster.nodata, raster.dtypes, raster.units) == (255, ("uint8",), ("percent",))
        values = detections[f"probabilities{suffix}"].values
        np.testing.assert_array_equal(percent == 255, np.isnan(values))
        inside = ~np.isnan(values)
        assert percent[inside].max() <= 100
        assert np.abs(percent[inside] - values[inside].astype(np.float64) * 100).max() <= 0.5 + 1e-5


def test_binarized_is_the_detections(exported, detections):
    for suffix in ("", "-tcvis"):
        with rasterio.open(exported[0] / f"binarized{suffix}.tif") as raster:
            assert (raster.nodata, raster.dtypes) == (255, ("uint8",))
            pixels, extent = raster.read(1), detections["extent"].values
            np.testing.assert_array_equal(pixels == 1, detections[f"binarized_segmentation{suffix}"].values)
            np.testing.assert_array_equal(pixels == 255, ~extent)
            assert 0.1 < extent.mean() < 0.99


@pytest.mark.parametrize(
    ("stem", "bands"),
    [
        ("optical", ("red", "green", "blue", "nir")),
        ("dem", ("slope", "relative_elevation")),
        ("tcvis", TCVIS),
        ("ndvi", ("ndvi",)),
        ("curvature", ("curvature",)),
        ("quality_data_mask", ("quality_data_mask",)),
    ],
)
def test_bands_show_physical_values(exported, features, stem, bands):
    with rasterio.open(exported[0] / f"{stem}.tif") as raster:
        assert raster.descriptions == bands
        for index, name in enumerate(bands, start=1):
            codec = band(name)
            stored = raster.read(index)
            assert stored.dtype == codec.stored
            assert raster.nodata == codec.fill
            physical = np.where(
                stored == raster.nodata, np.nan, stored * raster.scales[index - 1] + raster.offsets[index - 1]
            )
            values = codec.decode(codec.encode(features[name].values))
            np.testing.assert_allclose(physical, values, rtol=1e-5, atol=1e-5)


def test_rasters_are_valid_cogs_on_the_scenes_grid(exported, features):
    geobox = geobox_of(features)
    rasters = sorted(exported[0].glob("*.tif"))
    assert len(rasters) == 10
    for path in rasters:
        with rasterio.open(path) as raster:
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert cog_validate(path, strict=True, quiet=True) == (True, [], [])
            assert raster.compression.name == "deflate"
            assert raster.overviews(1) == [2]
            assert raster.block_shapes[0] == (512, 512)
            assert raster.transform == geobox.affine
            assert raster.crs == rasterio.CRS.from_epsg(32608)
            tags = raster.tags()
            assert {key: tags.get(key) for key in METADATA} == {
                **{key: str(value) for key, value in METADATA.items()},
                "models": None,
            }


def test_rasters_have_colors_for_programs_without_styles(exported):
    gray, undefined = "Gray", "Undefined"
    colors = {
        "optical": ["Red", "Green", "Blue", undefined], "tcvis": ["Red", "Green", "Blue"], "dem": [gray, undefined],
        "probabilities": [gray], "binarized": ["Palette"], "quality_data_mask": ["Palette"],
    }  # fmt: skip
    for name, expected in colors.items():
        with rasterio.open(exported[0] / f"{name}.tif") as raster:
            assert [each.name.capitalize() for each in raster.colorinterp] == expected
    with rasterio.open(exported[0] / "binarized.tif") as raster:
        assert {value: raster.colormap(1)[value] for value in (0, 1)} == {
            0: (242, 242, 242, 255),
            1: (215, 48, 31, 255),
        }
    if not shutil.which("gdalinfo"):
        pytest.skip("gdalinfo (Debian: gdal-bin) is not installed")
    for name, expected in colors.items():
        command = ["gdalinfo", "-json", str(exported[0] / f"{name}.tif")]
        bands = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["bands"]
        assert [each["colorInterpretation"] for each in bands] == expected
        assert all(each["description"] for each in bands)
        nodata = {"optical": 0, "dem": -1, "probabilities": 255, "binarized": 255}
        assert [each.get("noDataValue") for each in bands] == [nodata.get(name)] * len(bands)
        if expected == ["Palette"]:
            flags = band("binarized_segmentation" if name == "binarized" else name).flags
            entries = bands[0]["colorTable"]["entries"]
            assert [entries[flag.value][:3] for flag in flags] == [
                list(bytes.fromhex(flag.color[1:])) for flag in flags
            ]


def test_overviews_stand_before_the_full_resolution(exported):
    for path in exported[0].glob("*.tif"):
        with rasterio.open(path) as raster:
            # Where GDAL's own validator looks: directories at the front, then the pixels, coarsest first.
            assert int(raster.get_tag_item("IFD_OFFSET", "TIFF", bidx=1)) < 300
            directory = int(raster.get_tag_item("IFD_OFFSET", "TIFF", bidx=1, ovr=0))
            overview = int(raster.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, ovr=0))
            assert directory < overview < int(raster.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1))


def test_overviews_average_what_is_known_but_not_classes(exported):
    with rasterio.open(exported[0] / "probabilities.tif") as raster:
        percent, coarse = raster.read(1), raster.read(1, out_shape=(512, 512))
    blocks = np.where(percent == 255, np.nan, percent).reshape(512, 2, 512, 2)
    known = ~np.isnan(blocks).any(axis=(1, 3))
    assert known.sum() > 100_000
    assert np.abs(coarse[known] - blocks.mean(axis=(1, 3))[known]).max() <= 0.5
    assert (coarse[np.isnan(blocks).all(axis=(1, 3))] == 255).all()
    with rasterio.open(exported[0] / "binarized.tif") as raster:
        assert np.unique(raster.read(1, out_shape=(512, 512))).tolist() == [0, 1, 255]


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        ("prediction_segments", "segments"),
        ("prediction_segments-tcvis", "segments-tcvis"),
        ("prediction_extent", "extent"),
    ],
)
def test_tables_come_back_equal(exported, vectors, stem, key):
    expected = vectors[key]
    parquet = gpd.read_parquet(exported[0] / f"{stem}.parquet")
    assert_geodataframe_equal(parquet, expected)
    assert parquet.attrs["scene"] == "SYNTH"

    geopackage = exported[0] / f"{stem}.gpkg"
    info = pyogrio.read_info(geopackage)
    assert (info["crs"], info["geometry_type"], info["layer_name"]) == ("EPSG:32608", "MultiPolygon", stem)
    assert info["layer_metadata"]["scene"] == "SYNTH"
    back = pyogrio.read_dataframe(geopackage)
    assert back.drop(columns="geometry").equals(expected.drop(columns="geometry"))
    assert back.geom_equals(expected.geometry).all()


def test_metadata_and_picture_carry_the_provenance(exported):
    assert json.loads((exported[0] / "metadata.json").read_text()) == METADATA
    with Image.open(exported[0] / "thumbnail.jpg") as picture:
        assert picture.size == (512, 534), "with a legend and a scale bar"
        assert json.loads(picture.info["comment"])["code_version"] == "0.1.0"


def test_each_detection_has_a_chip(exported, vectors):
    with (exported[0] / "chips.zip").open("rb") as file:
        assert read_directory(file).keys() == {str(number) for number in vectors["segments"]["Region_ID"]}


def test_an_invalid_scene_is_exported_whole(tmp_path, probabilities, features, quality):
    detections = postprocess(probabilities, xr.zeros_like(quality), PostprocessParameters(min_object_size=32))
    nothing = {"segments": segments(detections), "extent": extent_polygons(detections)}
    files = export(
        tmp_path,
        DEFAULT_PRODUCTS,
        probabilities=probabilities,
        features=features,
        vectors=nothing,
        metadata=METADATA,
    )
    with rasterio.open(files["probabilities"][0]) as raster:
        assert (raster.read() == 255).all()
    with rasterio.open(files["binarized"][0]) as raster:
        assert (raster.read() == 255).all()
    geopackage, parquet, _ = files["polygonized"]
    assert_geodataframe_equal(gpd.read_parquet(parquet), nothing["segments"])
    assert pyogrio.read_info(geopackage)["features"] == 0
    assert pyogrio.read_info(geopackage)["crs"] == "EPSG:32608"
    assert pyogrio.read_info(files["extent"][0])["fields"].tolist() == ["npixel", "area_m2", "clear_fraction"]
    assert files["thumbnail"][0].stat().st_size > 1000


def test_unknown_products_are_refused_before_anything_is_written(tmp_path, probabilities, features, vectors):
    with pytest.raises(SettingsError, match=r"unknown product\(s\) polygons; available: probabilities, .*red"):
        export(
            tmp_path,
            ["metadata", "polygons"],
            probabilities=probabilities,
            features=features,
            vectors=vectors,
            metadata={},
        )
    with pytest.raises(SettingsError, match=r"product tcvis needs band\(s\) tc_wetness; the tile has"):
        export(
            tmp_path,
            ["metadata", "tcvis"],
            probabilities=probabilities,
            features=features.drop_vars("tc_wetness"),
            vectors=vectors,
            metadata={},
        )
    assert not list(tmp_path.iterdir())


def test_every_feature_can_be_asked_for():
    check_products([*DEFAULT_PRODUCTS, "optical", "dem", "tcvis", *FEATURES, "arcticdem_data_mask", "s2_scl"])


def test_tiles_on_different_grids_are_refused(tmp_path, probabilities, features, vectors):
    with pytest.raises(ValueError, match="different grids"):
        export(
            tmp_path,
            ["probabilities"],
            probabilities=probabilities.isel(y=slice(8, None)),
            features=features,
            vectors=vectors,
            metadata={},
        )


def test_a_failing_read_leaves_no_temporary_file(tmp_path, features, vectors):
    class BrokenError(Exception):
        pass

    class Broken(xr.backends.BackendArray):
        shape, dtype = (1024, 1024), np.dtype("float32")

        def __getitem__(self, key):
            raise BrokenError

    lazy = xr.Variable(("y", "x"), xr.core.indexing.LazilyIndexedArray(Broken()))
    broken = features[["red"]].drop_vars("red").assign(probabilities=lazy)
    with pytest.raises(BrokenError):
        export(
            tmp_path,
            ["probabilities"],
            probabilities=broken,
            features=features,
            vectors=vectors,
            metadata={},
        )
    assert not list(tmp_path.iterdir())


def test_thumbnail_draws_outlines_where_they_are():
    binarized, extent = np.zeros((400, 600), bool), np.zeros((400, 600), bool)
    extent[100:300, 100:500] = True
    binarized[180:220, 200:300] = True
    tile = detections_of(binarized, extent)
    vectors = {"segments": segments(tile), "extent": extent_polygons(tile)}
    grey = np.full((400, 600), 0.1, np.float32)
    grey[:50] = np.nan
    picture = thumbnail(on_grid({"red": grey, "green": grey, "blue": grey * 4}, geobox_of(tile)), vectors, size=300)
    pixels = np.asarray(picture)
    assert picture.size == (300, 200)
    assert pixels[10, 10].tolist() == [0, 0, 0]  # no data
    assert pixels[100, 130].tolist() == [16, 16, 255]  # inside a detection: the scene itself, stretched 0.08..0.4

    def ring(color):
        near = np.abs(pixels.astype(int) - color).sum(axis=-1) < 120
        rows, columns = np.nonzero(near)
        return rows.min(), rows.max(), columns.min(), columns.max()

    np.testing.assert_allclose(ring(DETECTION_COLOR), (90, 110, 100, 150), atol=1)
    np.testing.assert_allclose(ring(EXTENT_COLOR), (50, 150, 50, 250), atol=1)


def test_thumbnail_outlines_the_clear_part_of_the_valid_area():
    extent = np.zeros((400, 600), bool)
    extent[100:300, 100:500] = True
    tile = detections_of(np.zeros_like(extent), extent)
    vectors = {"segments": segments(tile), "extent": extent_polygons(tile)}
    dark, quality = np.zeros((400, 600), np.float32), np.full((400, 600), 2, np.uint8)
    quality[:, 300:] = 1
    quality[150:152, 200:202] = 1  # a speck

    def outlined(quality):
        bands = {"red": dark, "green": dark, "blue": dark, "quality_data_mask": quality}
        pixels = np.asarray(thumbnail(on_grid(bands, geobox_of(tile)), vectors, size=300))
        rows, columns = np.nonzero(np.abs(pixels.astype(int) - EXTENT_COLOR).sum(axis=-1) < 200)
        return rows.min(), rows.max(), columns.min(), columns.max(), len(rows)

    np.testing.assert_allclose(outlined(quality), (50, 149, 50, 149, 396), atol=4)
    clouded = np.ones_like(quality)
    clouded[0, 0] = 2
    with pytest.raises(ValueError, match="zero-size"):
        outlined(clouded)  # nothing is drawn


def test_thumbnail_hatches_what_is_valid_but_not_clear():
    extent = np.ones((400, 600), bool)
    tile = detections_of(np.zeros_like(extent), extent)
    vectors = {"segments": segments(tile), "extent": extent_polygons(tile)}
    cloud, quality = np.full((400, 600), 0.1, np.float32), np.full((400, 600), 2, np.uint8)
    cloud[:, 300:450], quality[:, 300:450], quality[:, 450:] = 0.9, 1, 0
    quality[100:102, 100:102] = 1  # a speck
    bands = {"red": cloud, "green": cloud, "blue": cloud, "quality_data_mask": quality}
    pixels = np.asarray(thumbnail(on_grid(bands, geobox_of(tile)), vectors, size=300))
    hatched = (pixels == HATCH_COLOR).all(axis=-1)
    assert hatched[:, 152:223].mean() == pytest.approx(1 / 9, abs=0.02)
    assert not hatched[:, :148].any()
    assert not hatched[:, 226:].any(), "invalid pixels are not in the valid area"


def test_thumbnail_draws_objects_of_several_parts():
    mask = np.zeros((64, 64), bool)
    mask[10:20, 10:20] = mask[20:40, 20:40] = True  # two squares that meet at a corner
    tile = detections_of(mask)
    vectors = {"segments": segments(tile), "extent": extent_polygons(tile)}
    assert vectors["segments"].geom_type.tolist() == ["MultiPolygon"]
    dark = np.zeros((64, 64), np.float32)
    pixels = np.asarray(thumbnail(on_grid({"red": dark, "green": dark, "blue": dark}, geobox_of(tile)), vectors))
    near = np.abs(pixels.astype(int) - DETECTION_COLOR).sum(axis=-1) < 260
    assert near[10:20, 9:11].any()
    assert near[22:40, 39:41].any()


def test_thumbnail_of_a_small_tile_keeps_its_size():
    tile = detections_of(np.zeros((30, 40), bool))
    dark = np.zeros((30, 40), np.float32)
    vectors = {"segments": segments(tile), "extent": extent_polygons(tile)}
    assert thumbnail(on_grid({"red": dark, "green": dark, "blue": dark}, geobox_of(tile)), vectors).size == (40, 30)


GRID = GeoBox((1098, 1098), Affine(100, 0, 399_960, 0, -100, 7_700_040), "EPSG:32608")  # as large as a Sentinel-2 tile
NOTHING = gpd.GeoDataFrame({"npixel": []}, geometry=[], crs="EPSG:32608")


def extent_of(*areas: shapely.Geometry) -> gpd.GeoDataFrame:
    return gpd.GeoDataFrame(geometry=list(areas), crs="EPSG:32608")


def test_the_footprint_is_the_hull_of_what_was_seen_with_the_arcs_of_its_edges() -> None:
    inside = GRID.extent.geom.buffer(-10_000, join_style="mitre")
    cloud = inside.centroid.buffer(20_000)
    geometry = shape(footprint(extent_of(inside - cloud), GRID))
    exact = lonlat_area(inside, GRID.crs.proj)
    assert geometry.symmetric_difference(exact).area < 1e-4 * exact.area
    assert len(geometry.exterior.coords) > 60, "straight edges of the projection are arcs in longitudes and latitudes"
    assert geometry.exterior.is_ccw
    two = shape(
        footprint(extent_of(shapely.box(4e5, 7.6e6, 4.1e5, 7.61e6), shapely.box(4.5e5, 7.65e6, 4.6e5, 7.66e6)), GRID)
    )
    assert two.geom_type == "Polygon"


def test_the_footprint_of_a_clouded_scene_is_its_grid() -> None:
    geometry = shape(footprint(NOTHING, GRID))
    assert geometry.symmetric_difference(lonlat_area(GRID.extent.geom, GRID.crs.proj)).area < 1e-4


def test_a_footprint_over_the_antimeridian_is_cut() -> None:
    grid = GeoBox((1098, 1098), Affine(100, 0, 560_000, 0, -100, 7_700_040), "EPSG:32660")
    geometry = shape(footprint(NOTHING, grid))
    assert geometry.geom_type == "MultiPolygon"
    assert {round(bound) for part in geometry.geoms for bound in part.bounds[::2]} >= {180, -180}


def test_files_are_described_as_they_are(tmp_path: Path) -> None:
    with rasterio.open(
        tmp_path / "slope.tif",
        "w",
        driver="GTiff",
        width=8,
        height=8,
        count=2,
        dtype="int16",
        nodata=-1,
        crs="EPSG:32608",
        transform=GRID.affine,
    ) as raster:
        raster.write(np.zeros((2, 8, 8), "int16"))
        raster.descriptions, raster.scales, raster.offsets = ("slope", "aspect"), (0.01, 0.1), (0.0, 5.0)
        raster.units = ("degree", "")
    table = extent_of(shapely.box(4e5, 7.6e6, 4.1e5, 7.61e6))
    table.to_parquet(tmp_path / "prediction_extent.parquet")
    table.to_file(tmp_path / "prediction_extent.gpkg", layer="prediction_extent")
    description = describe(tmp_path, GRID, {"segments": NOTHING, "extent": table})
    assert description["grid"] == {
        "crs": "EPSG:32608", "shape": [1098, 1098], "transform": [100.0, 0.0, 399960.0, 0.0, -100.0, 7700040.0]
    }  # fmt: skip
    geodesic = pytest.approx(100 / 0.9996**2, rel=3e-4)  # the grid is around the central meridian of the zone
    assert description["summary"] == {"objects": 0, "area_ha": 0.0, "extent_km2": geodesic}
    files = description["files"]
    assert files["slope.tif"]["bands"] == [
        {"name": "slope", "data_type": "int16", "nodata": -1, "scale": 0.01, "offset": 0.0, "unit": "degree"},
        {"name": "aspect", "data_type": "int16", "nodata": -1, "scale": 0.1, "offset": 5.0},
    ]
    assert files["prediction_extent.parquet"]["rows"] == 1
    assert [column["name"] for column in files["prediction_extent.parquet"]["columns"]] == ["geometry"]
    assert (files["prediction_extent.gpkg"]["rows"], files["prediction_extent.gpkg"]["layer"]) == (
        1,
        "prediction_extent",
    )
    for name, facts in files.items():
        content = (tmp_path / name).read_bytes()
        assert (facts["bytes"], facts["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_areas_of_the_summary_are_those_of_an_equal_area_projection(vectors):
    objects, extent = vectors["segments"], vectors["extent"]
    equal = {
        name: gpd.GeoSeries(table.segmentize(1000), crs=table.crs).to_crs("EPSG:6931").area
        for name, table in vectors.items()
    }
    figures = summary(objects, extent)
    assert figures["area_ha"] == pytest.approx(equal["segments"].sum() / 1e4, abs=1e-3)
    assert figures["extent_km2"] == pytest.approx(equal["extent"].sum() / 1e6, abs=1e-3)
    assert figures["clear_km2"] == pytest.approx((equal["extent"] * extent["clear_fraction"]).sum() / 1e6, abs=1e-3)
    assert abs(figures["extent_km2"] / (extent.area.sum() / 1e6) - 1) > 1e-4, "planar areas differ"
    assert "clear_km2" not in summary(objects, extent.drop(columns="clear_fraction"))
