"""Sets of the real labels: generated imagery under the real footprints, and the real Peel clip with its 12 experts."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.features
import shapely
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from odc.geo.geom import Geometry

from darts_assets.errors import TrainingError
from darts_assets.features.preprocess import ndvi
from darts_assets.tiles import on_grid
from darts_assets.training.labels import LabelArchive, read_archive
from darts_assets.training.regions import NO_REGION, read_regions, regions_of
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import Origin, write_sample
from darts_assets.training.set_builder import SetBuilder

PIXEL = 30.0
BANDS = ("red", "nir")


def imagery(footprint: shapely.Geometry) -> xr.Dataset:
    """A generated tile under a footprint, in its UTM zone."""
    place = Geometry(footprint, "EPSG:4326")
    grid = GeoBox.from_geopolygon(place.to_crs("utm"), resolution=PIXEL)
    red = np.random.default_rng(int(abs(footprint.bounds[0]) * 1e6)).uniform(0.02, 0.2, grid.shape).astype(np.float32)
    return on_grid({"red": red, "nir": red * 2, "quality_data_mask": np.full(grid.shape, 2, np.uint8)}, grid)


@pytest.fixture(scope="module")
def archive(shared) -> LabelArchive:
    return read_archive(shared / "data" / "ml_training_labels")


@pytest.fixture(scope="module")
def countries(shared, archive) -> gpd.GeoDataFrame:
    path = shared / "data" / "natural_earth" / "110m" / "cultural" / "ne_110m_admin_0_countries.json"
    return read_regions(path, archive.footprints, "NAME")


@pytest.mark.slow
def test_a_set_of_the_real_labels_has_what_geopandas_counts(shared, archive, countries, store) -> None:
    regions = regions_of(archive.footprints.set_index("image_id"), countries)
    parameters = PatchParameters(bands=BANDS, patch_size=960, overlap=0, min_visible=0)  # every image is one patch
    builder = SetBuilder(archive, regions, store, parameters, "planet-archive")
    for image in archive.footprints["image_id"]:
        assert builder.add(image, imagery(archive.footprint(image))).patches == 1
    summary = store.assemble()

    # The same from the files, by geopandas alone.
    root = shared / "data" / "ml_training_labels"
    read = {path.stem: gpd.read_file(path) for path in root.rglob("*.gpkg")}
    names = [n for n in read if n.startswith("TrainingLabel") and n[-3:] in ("002", "006")]
    labels = pd.concat([read[n].assign(iteration=n[-12:], label=read[n]["label"].astype(int)) for n in names])
    footprints = pd.concat([read[n.replace("TrainingLabel", "ImageFootprints")] for n in names])
    world = gpd.read_file(root.parent / "natural_earth/110m/cultural/ne_110m_admin_0_countries.json")
    arctic = world[world.NAME.isin(["Canada", "Russia", "United States of America", "Greenland"])].to_crs(3571)
    shares = footprints.to_crs(3571).overlay(arctic[["NAME", "geometry"]]).assign(area=lambda table: table.area)
    country = shares.sort_values("area").drop_duplicates("image_id", keep="last").set_index("image_id")["NAME"]
    country = footprints.set_index("image_id").index.to_series().map(country).fillna(NO_REGION)
    labels["country"] = labels["image_id"].map(country)

    written = gpd.read_parquet(store.current.path / "labels.parquet")
    table = gpd.read_parquet(store.current.path / "metadata.parquet")
    expected = labels.groupby(["iteration", "region", "label"]).size()
    pd.testing.assert_series_equal(written.groupby(["iteration", "region", "label"]).size(), expected)
    assert dict(zip(table["image_id"], table["region"], strict=True)) == country.to_dict()
    of_label = written["image_id"].map(table.set_index("image_id")["region"])
    assert of_label.value_counts().to_dict() == labels["country"].value_counts().to_dict()
    assert summary.patches == len(table) == len(footprints) == 18
    assert set(table.loc[~table["empty"], "image_id"]) == set(labels["image_id"])

    # The broken iteration is not in it, and said so.
    assert not written["iteration"].isin(["iteration001", "iteration005"]).any()
    assert sum("iteration005" in problem for problem in archive.problems) == 1

    # Areas by class: pixels against polygons.
    y = zarr.open_group(store.current.path / "data.zarr", mode="r")["y"]
    for number, image in enumerate(table["image_id"]):
        seen = gpd.GeoSeries([archive.footprint(image)], crs=4326)
        utm = seen.estimate_utm_crs()
        seen = seen.to_crs(utm).union_all()
        slumps = archive.of_image(image).to_crs(utm).union_all() & seen
        counts = np.bincount(y[number].ravel(), minlength=3) * PIXEL**2
        assert counts[1] == pytest.approx(slumps.area, rel=0.08, abs=0)
        assert counts[0] == pytest.approx(seen.area - slumps.area, rel=0.01)


def test_the_region_is_the_one_that_covers_most(countries) -> None:
    """On the border of Alaska and Yukon, by shares of 30, 45 and 70 per cent; and at sea."""
    edges = {"west": -141 - 0.55, "middle": -141 - 0.7, "east": -141 - 0.3}
    shapes = [shapely.box(west, 67, west + 1, 67.3) for west in edges.values()] + [shapely.box(-150, 73, -149, 73.5)]
    footprints = gpd.GeoDataFrame(geometry=shapes, index=[*edges, "sea"], crs="EPSG:4326")
    found = regions_of(footprints, countries).to_dict()
    alaska = "United States of America"
    assert found == {"west": alaska, "middle": alaska, "east": "Canada", "sea": NO_REGION}


def test_regions_of_another_crs_are_the_same(shared, archive, countries, tmp_path) -> None:
    path = shared / "data" / "natural_earth" / "110m" / "cultural" / "ne_110m_admin_0_countries.json"
    world = gpd.read_file(path)
    polar = world[world.bounds["maxy"] > 60][["NAME", "geometry"]]
    polar.set_geometry(polar.segmentize(0.1)).to_crs(3413).to_file(tmp_path / "polar.gpkg")
    footprints = archive.footprints.set_index("image_id")
    assert regions_of(footprints, read_regions(tmp_path / "polar.gpkg", archive.footprints, "NAME")).equals(
        regions_of(footprints, countries)
    )
    with pytest.raises(TrainingError, match="no column 'shapeName'; columns are NAME"):
        read_regions(tmp_path / "polar.gpkg", archive.footprints)
    with pytest.raises(TrainingError, match="regions cannot be read"):
        read_regions(tmp_path / "nothing.gpkg", archive.footprints)


def test_a_tile_that_lies_elsewhere_is_refused(archive, store) -> None:
    first, *_, last = archive.footprints["image_id"]
    builder = SetBuilder(archive, pd.Series(dtype=str), store, PatchParameters(bands=BANDS), "planet-pingo")
    with pytest.raises(TrainingError, match=f"image {first}: the footprint does not intersect the tile"):
        builder.add(first, imagery(archive.footprint(last)))
    with pytest.raises(TrainingError, match="no footprint of image 'other'"):
        builder.add("other", imagery(archive.footprint(last)))


def test_a_set_of_the_peel_clip_and_its_experts(shared, store) -> None:
    folder = shared / "data" / "rts_digitization_experiment"
    with rasterio.open(next((folder / "peel" / "data").glob("S2_*.tif"))) as source:
        numbers = source.read([1, 2, 3, 7]).astype(np.float32)
        grid = GeoBox(source.shape, source.transform, source.crs)
    blue, green, red, nir = np.where(numbers == 0, np.nan, numbers / 10_000)
    quality = np.full(grid.shape, 2, dtype=np.uint8)
    bands = {"blue": blue, "green": green, "red": red, "nir": nir, "ndvi": ndvi(red, nir), "quality_data_mask": quality}
    experts = [gpd.read_file(path) for path in sorted(folder.glob("experts/*/*.shp"))]
    assert len(experts) == 12
    votes = sum(
        rasterio.features.rasterize(expert.geometry, out_shape=grid.shape, transform=grid.affine) for expert in experts
    )
    majority = (votes > 6).astype(np.uint8)
    outlines = [
        shapely.geometry.shape(shape)
        for shape, value in rasterio.features.shapes(majority, mask=majority > 0, transform=grid.affine)
        if value
    ]
    labels = gpd.GeoDataFrame({"label": 1}, index=range(len(outlines)), geometry=outlines, crs=str(grid.crs))
    parameters = PatchParameters(bands=("blue", "green", "red", "nir", "ndvi"), patch_size=64, overlap=0)
    origin = Origin("S2_20210821T210019_20210821T210020_T08WMA", "Peel Plateau")
    write_sample(store.sample(origin.image_id), on_grid(bands, grid), labels, None, origin, parameters, "sentinel2")
    summary = store.assemble()
    assert summary.patches == 16
    assert 0 < summary.positive < 16

    # Patches put together again are the raster of the majority, pixel by pixel.
    table = gpd.read_parquet(store.current.path / "metadata.parquet")
    group = zarr.open_group(store.current.path / "data.zarr", mode="r")
    again = np.full(grid.shape, 9, dtype=np.uint8)
    for number, (row, col) in enumerate(zip(table["row"], table["col"], strict=True)):
        again[row : row + 64, col : col + 64] = group["y"][number]
    np.testing.assert_array_equal(again, majority)
    np.testing.assert_allclose(group["x"][0, 2], np.clip((red[:64, :64] + 0.1) / 0.6, 0, 1), atol=1e-6)
    assert list(table["empty"]) == [not (group["y"][n] == 1).any() for n in range(16)]
