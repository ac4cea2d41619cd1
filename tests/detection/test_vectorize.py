import cc3d
import geopandas as gpd
import numpy as np
import pytest
import rasterio.features
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy import ndimage

from darts_assets.detection import PostprocessParameters
from darts_assets.detection.outlines import outlines
from darts_assets.detection.postprocess import find_objects
from darts_assets.detection.vectorize import (
    CLEAR_BLOCK,
    clear_polygons,
    detection_tables,
    extent_polygons,
    mask_from,
    segments,
)
from darts_assets.tiles import geobox_of, on_grid

from .conftest import detections_of, grid

EIGHT = np.ones((3, 3))
COLUMNS = {
    "Region_ID": "int64",
    "touches_edge": "bool",
    "clear_fraction": "float64",
    "min": "float64",
    "max": "float64",
    "mean": "float64",
    "median": "float64",
    "std": "float64",
    "model_spread": "float64",
    "npixel": "int64",
    "geometry": "geometry",
}


def drawn(*rows):
    return np.array([[c == "#" for c in row] for row in rows])


def row_major(mask):
    """Masks of the 8-connected objects, in row-major order of their first pixels."""
    labels, count = ndimage.label(mask, EIGHT)
    masks = [labels == i + 1 for i in range(count)]
    return sorted(masks, key=lambda m: np.flatnonzero(m)[0])


@pytest.mark.parametrize("suffix", ["", "-tcvis"])
def test_statistics_are_those_of_each_objects_own_pixels(detections, vectors, suffix):
    table = vectors[f"segments{suffix}"]
    masks = row_major(detections[f"binarized_segmentation{suffix}"].values)
    probabilities = detections[f"probabilities{suffix}"].values.astype(np.float64)
    assert len(table) == len(masks) > 40
    for row, mask in zip(table.itertuples(), masks, strict=True):
        values = probabilities[mask]
        expected = [values.min(), values.max(), values.mean(), np.median(values), values.std()]
        np.testing.assert_allclose([row.min, row.max, row.mean, row.median, row.std], expected, rtol=0, atol=1e-9)
        assert row.npixel == mask.sum()
        around = ndimage.binary_dilation(mask, EIGHT) & ~detections["extent"].values
        assert row.touches_edge == around.any()
    assert table["Region_ID"].tolist() == list(range(1, len(masks) + 1))
    assert 0 < table["touches_edge"].sum() < len(table)


def test_objects_are_the_peers_with_diagonal_parts_together(shared, detections, vectors, peer):
    ours = vectors["segments"]
    theirs = gpd.read_parquet(shared / "reference" / "prediction_segments.parquet")
    assert ours.crs == theirs.crs
    # What the peer loses by counting sizes 4-connected; that it is right is tested in test_postprocess.
    extra = detections["binarized_segmentation"].values & ~peer["binarized"].values
    lost = shapely.union_all(segments(detections_of(extra)).geometry.to_numpy())
    owner = ours.sindex.query(theirs.representative_point(), predicate="intersects")
    assert owner[0].tolist() == list(range(len(theirs)))
    dissolved = theirs.geometry.groupby(owner[1]).apply(lambda parts: shapely.union_all(parts.to_numpy()))
    less = ours.geometry.difference(lost)
    less = less[~less.is_empty]
    assert less.index.tolist() == dissolved.index.tolist()
    assert shapely.equals(less.to_numpy(), dissolved.to_numpy()).all()


def test_extent_is_the_peers(shared, vectors):
    theirs = gpd.read_parquet(shared / "reference" / "prediction_extent.parquet")
    ours = vectors["extent"]
    assert len(ours) == 1
    assert shapely.equals(ours.geometry[0], theirs.geometry.iloc[0])
    assert ours["npixel"].tolist() == theirs["npixel"].tolist()
    equal_area = gpd.GeoSeries(ours.segmentize(1000), crs=ours.crs).to_crs("EPSG:6931").area
    assert ours["area_m2"].tolist() == pytest.approx(equal_area.tolist(), rel=1e-6)
    assert ours["area_m2"][0] == pytest.approx(100 * theirs["npixel"].iloc[0], rel=2e-3)  # planar


def test_diagonal_objects_are_one_valid_feature():
    table = segments(detections_of(drawn("##....", "##..#.", "..#...", "...#..", "......")))
    assert table["npixel"].tolist() == [6, 1]
    assert table.geom_type.tolist() == ["MultiPolygon", "Polygon"]
    assert table.is_valid.all()
    assert table.area.tolist() == [600, 100]


def test_holes_stay_holes():
    ring = drawn("#####", "#...#", "#.#.#", "#...#", "#####")
    table = segments(detections_of(ring))
    assert table["npixel"].tolist() == [16, 1]
    assert len(table.geometry[0].interiors) == 1
    assert not table.geometry[0].intersects(table.geometry[1])


def traced_by_gdal(labels, mask, geobox):
    """One geometry per label, put together from the polygons that GDAL traces one by one."""
    parts = {}
    for geometry, value in rasterio.features.shapes(labels, mask=mask, connectivity=4, transform=geobox.affine):
        parts.setdefault(int(value), []).append(shapely.geometry.shape(geometry))
    return [p[0] if len(p) == 1 else shapely.MultiPolygon(p) for _, p in sorted(parts.items())]


def assert_outlines_are_gdals(mask, geobox):
    labels = find_objects(mask).labels
    ours, theirs = outlines(labels, mask, geobox), traced_by_gdal(labels, mask, geobox)
    assert len(ours) == len(theirs)
    assert shapely.is_valid(ours).all()
    # The same corners, exactly, whichever a ring starts with.
    assert shapely.equals_exact(shapely.normalize(ours), shapely.normalize(theirs)).all()


DRAWINGS = {
    "a ring closed by a corner only": ("..##", ".#.#", ".###", "...."),
    "holes that meet at a corner": ("####", "#.##", "##.#", "####"),
    "a hole that meets the outside at a corner": (".###", "#.##", "####", "...."),
    "a part inside a part, and an island in its hole": ("#####..", "#...###", "#.#.#.#", "#...###", "#####.."),
    "nested rings": ("#######", "#.....#", "#.###.#", "#.#.#.#", "#.###.#", "#.....#", "#######"),
    "parts that meet at corners in a circle": (".#.", "#.#", ".#."),
    "a checkerboard": ("#.#.#", ".#.#.", "#.#.#", ".#.#."),
    "everything": ("###", "###"),
    "a line along each border": ("####", "#..#", "#..#", "####"),
    "one pixel": ("#",),
    "one row": ("#.##.###",),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWINGS)
def test_outlines_of_difficult_masks_are_gdals(name):
    mask = drawn(*DRAWINGS[name])
    for turned in (mask, mask[::-1], mask.T, ~mask):
        assert_outlines_are_gdals(np.ascontiguousarray(turned), grid(*turned.shape))


def test_outlines_of_random_masks_are_gdals():
    rng = np.random.default_rng(11)
    for _ in range(300):
        height, width = rng.integers(1, 13, 2)
        assert_outlines_are_gdals(rng.random((height, width)) < rng.random(), grid(height, width))
    # Higher than one band of rows, with steps in degrees.
    geobox = GeoBox((150, 131), Affine(1 / 3, 0, -137.1234567, 0, -1 / 7, 69.7654321), "EPSG:4326")
    for density in (0.05, 0.4, 0.6, 0.95):
        assert_outlines_are_gdals(rng.random((150, 131)) < density, geobox)


@pytest.mark.parametrize("shape", [(11, 5), (11, 11), (51, 101), (50, 101), (51, 100)])
def test_labels_stay_inside_the_mask_also_on_odd_grids(shape):
    for seed in range(20):
        mask = np.random.default_rng(seed).random(shape) < 0.4
        objects = find_objects(mask)
        np.testing.assert_array_equal(objects.labels > 0, mask)
        assert objects.count == ndimage.label(mask, EIGHT)[1]


@pytest.mark.parametrize("density", [0.05, 0.3, 0.5, 0.7, 0.95])
def test_masks_come_back_exactly(density):
    rng = np.random.default_rng(7)
    mask = rng.random((90, 130)) < density
    tile = detections_of(mask, extent=~mask)
    objects, areas = segments(tile), extent_polygons(tile)
    assert objects.is_valid.all()
    assert areas.is_valid.all()
    geobox = geobox_of(tile)
    np.testing.assert_array_equal(mask_from(objects, geobox), mask)
    np.testing.assert_array_equal(mask_from(areas, geobox), ~mask)
    # Any window of the grid gives the window of the mask.
    np.testing.assert_array_equal(mask_from(objects, geobox[33:57, 20:90]), mask[33:57, 20:90])
    assert objects["npixel"].sum() == mask.sum()
    assert areas["npixel"].sum() == (~mask).sum()
    assert areas["npixel"].is_monotonic_decreasing


def test_masks_come_back_on_a_grid_of_odd_numbers():
    mask = np.random.default_rng(3).random((64, 70)) < 0.5
    geobox = GeoBox((64, 70), Affine(1 / 3, 0, -137.1234567, 0, -1 / 7, 69.7654321), "EPSG:4326")
    bands = {"extent": mask, "clear": mask, "probabilities": mask.astype(np.float32), "binarized_segmentation": mask}
    np.testing.assert_array_equal(mask_from(segments(on_grid(bands, geobox)), geobox), mask)


def test_edges_touched():
    extent = np.ones((12, 12), bool)
    extent[5:7, 5:7] = False
    mask = np.zeros_like(extent)
    mask[0, 3] = True  # at the tile's border
    mask[2, 9] = True  # free
    mask[4, 4] = True  # the invalid area is its diagonal neighbour
    mask[8, 8] = True  # two pixels from it
    mask[11, 0] = True  # in the corner
    table = segments(detections_of(mask, extent))
    assert table["touches_edge"].tolist() == [True, False, True, False, True]


def test_median_of_even_and_odd_counts():
    mask = drawn("##..", "....", "###.")
    probabilities = np.float32([[0.6, 0.9, 0, 0], [0, 0, 0, 0], [0.7, 0.55, 0.8, 0]])
    table = segments(detections_of(mask, probabilities=probabilities))
    np.testing.assert_allclose(table["median"], [0.75, 0.7], atol=1e-7)
    np.testing.assert_allclose(table["min"], [0.6, 0.55], atol=1e-7)
    np.testing.assert_allclose(table["max"], [0.9, 0.8], atol=1e-7)


def test_constant_objects_have_no_deviation():
    probabilities = np.full((30, 30), 0.7, np.float32)
    table = segments(detections_of(np.ones((30, 30), bool), probabilities=probabilities))
    assert table["std"][0] < 1e-12
    assert table["mean"][0] == pytest.approx(np.float32(0.7), abs=1e-12)


def test_nothing_gives_empty_tables_of_the_same_kind():
    nothing = np.zeros((9, 9), bool)
    tile = detections_of(nothing, extent=nothing)
    table, extent = segments(tile), extent_polygons(tile)
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == COLUMNS
    assert extent.dtypes.astype(str).to_dict() == {
        "npixel": "int64", "area_m2": "float64", "clear_fraction": "float64", "geometry": "geometry"
    }  # fmt: skip
    assert len(table) == len(extent) == 0
    assert table.crs == extent.crs == "EPSG:32608"
    assert not mask_from(table, geobox_of(tile)).any()


def test_tables_have_the_promised_columns(vectors):
    assert {name: str(dtype) for name, dtype in vectors["segments"].dtypes.items()} == COLUMNS
    assert vectors["segments"].is_valid.all()


def test_objects_are_numbered_by_their_first_pixel_across_windows(monkeypatch):
    monkeypatch.setattr("darts_assets.tiles.row_windows.__defaults__", (8,))
    mask = np.random.default_rng(1).random((50, 40)) < 0.35
    objects = find_objects(mask)
    expected = row_major(mask)
    assert objects.count == len(expected)
    assert objects.sizes.tolist() == [(~mask).sum(), *(int(m.sum()) for m in expected)]
    for number, pixels in enumerate(expected, start=1):
        assert (objects.labels[pixels] == number).all()


def test_numbering_does_not_rely_on_the_order_of_the_labelling(monkeypatch):
    labelled = cc3d.connected_components

    def reversed_labels(mask, **options):
        labels, count = labelled(mask, **options)
        return np.where(labels > 0, count + 1 - labels, 0).astype(np.uint32), count

    mask = np.random.default_rng(2).random((30, 30)) < 0.3
    expected = find_objects(mask)
    monkeypatch.setattr(cc3d, "connected_components", reversed_labels)
    objects = find_objects(mask)
    np.testing.assert_array_equal(objects.labels, expected.labels)
    np.testing.assert_array_equal(objects.sizes, expected.sizes)


def test_polygons_of_another_crs_are_refused():
    table = segments(detections_of(drawn("##", "##")))
    with pytest.raises(ValueError, match="EPSG:3413"):
        mask_from(table.to_crs(3413), grid(2, 2))


def test_polygons_that_are_not_outlines_of_pixels_are_refused():
    geobox = grid(4, 4)
    x, y = geobox.boundingbox.left, geobox.boundingbox.bottom
    shifted, slanted = shapely.box(x + 3, y, x + 13, y + 10), shapely.Polygon([(x, y), (x + 20, y), (x + 20, y + 10)])
    for polygon in (shifted, slanted):
        with pytest.raises(ValueError, match="do not follow the pixel edges of this grid"):
            mask_from(gpd.GeoDataFrame(geometry=[polygon], crs=geobox.crs), geobox)


def test_clear_pixels_of_a_detection_and_of_the_valid_area_are_counted():
    values, quality = np.zeros((200, 200), np.float32), np.full((200, 200), 2, np.uint8)
    values[50:60, 50:60] = values[50:60, 146:156] = 0.9  # the second one reaches 6 of 10 columns into the clouds
    quality[:, 150:] = 1
    scene = on_grid({"probabilities": values, "quality_data_mask": quality}, grid(200, 200))
    tables = {
        level: detection_tables(scene[["probabilities"]], scene["quality_data_mask"], parameters)
        for level in ("low", "high")
        if (parameters := PostprocessParameters(quality_level=level, edge_erosion_size=0))
    }
    low, high = tables["low"], tables["high"]
    assert low["segments"]["clear_fraction"].tolist() == [1.0, 0.4]
    assert low["extent"]["clear_fraction"].tolist() == [0.75]
    np.testing.assert_array_equal(mask_from(low["clear"], grid(200, 200)), quality == 2)
    assert high["segments"]["clear_fraction"].tolist() == [1.0]
    assert high["extent"]["clear_fraction"].tolist() == [1.0]
    assert shapely.equals(high["clear"].union_all(), high["extent"].union_all())
    quality[:] = 1  # all clouds
    peer = PostprocessParameters(min_object_size=32)
    tables = detection_tables(scene[["probabilities"]], scene["quality_data_mask"], peer)
    assert tables["extent"]["clear_fraction"].tolist() == [0.0]
    assert tables["segments"]["clear_fraction"].tolist() == [0.0, 0.0]
    assert len(tables["clear"]) == 0
    assert tables["clear"].crs == "EPSG:32608"


def test_the_clear_area_is_cut_into_blocks():
    clear = np.random.default_rng(3).random((CLEAR_BLOCK + 40, 2 * CLEAR_BLOCK)) < 0.7
    clear[:CLEAR_BLOCK, CLEAR_BLOCK:] = False
    table = clear_polygons(detections_of(np.zeros_like(clear), clear=clear, extent=np.ones_like(clear)))
    assert len(table) == 3
    assert table.is_valid.all()
    assert (table.bounds.maxx - table.bounds.minx <= 10 * CLEAR_BLOCK).all()
    np.testing.assert_array_equal(mask_from(table, grid(*clear.shape)), clear)


def test_the_spread_between_models_is_the_mean_over_an_objects_pixels():
    first, second = (np.zeros((40, 40), np.float32) for _ in range(2))
    first[5:15, 5:15], second[5:15, 5:15] = 0.9, 0.7  # 0.1 everywhere
    first[20:30, 20:30], second[20:30, 20:30] = 0.8, 0.8
    second[20:25, 20:30] = 0.4  # 0.2 in half of the pixels
    mean = (first + second) / 2
    quality = xr.DataArray(np.full((40, 40), 2, np.uint8), dims=("y", "x"))
    parameters = PostprocessParameters(mask_erosion_size=0, min_object_size=0)

    def spread(**bands):
        return detection_tables(on_grid(bands, grid(40, 40)), quality, parameters)

    models = {"probabilities-a": first, "probabilities-b": second}
    tables = spread(probabilities=mean, **models)
    for name in ("segments", "segments-a", "segments-b"):
        assert tables[name]["model_spread"][0] == pytest.approx(0.1, abs=1e-6)
    assert tables["segments"]["model_spread"].tolist() == pytest.approx([0.1, 0.1], abs=1e-6)
    assert tables["segments"]["std"].tolist() == pytest.approx([0, 0.1], abs=1e-6)
    assert tables["segments-b"]["model_spread"].tolist() == pytest.approx([0.1, 0], abs=1e-6)
    stored = spread(probabilities=mean, model_spread=np.full((40, 40), np.float32(0.25)), **models)
    assert stored["segments"]["model_spread"].tolist() == [0.25, 0.25]
    for one in ({}, {"probabilities-a": first}):
        lonely = spread(probabilities=mean, **one)["segments"]["model_spread"]
        assert (lonely.dtype, lonely.isna().all()) == (np.float64, True)
