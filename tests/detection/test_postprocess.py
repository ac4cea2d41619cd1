import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from darts_assets.bands import band
from darts_assets.detection import PostprocessParameters
from darts_assets.detection.postprocess import postprocess
from darts_assets.errors import SettingsError
from darts_assets.tiles import on_grid

from .conftest import grid

EIGHT = np.ones((3, 3))


def tile(values, quality=None, **parameters):
    values = np.asarray(values, dtype=np.float32)
    quality = np.full(values.shape, 2, np.uint8) if quality is None else quality
    scene = on_grid({"probabilities": values, "quality_data_mask": quality}, grid(*values.shape)).chunk(7)
    return postprocess(scene[["probabilities"]], scene["quality_data_mask"], PostprocessParameters(**parameters))


def test_extent_and_probabilities_equal_the_peers(detections, peer):
    assert detections["extent"].dtype == bool
    np.testing.assert_array_equal(detections["extent"], peer["extent"])
    assert detections["probabilities"].dtype == np.float32
    np.testing.assert_array_equal(detections["probabilities"], peer["probabilities_out"])


def test_binarized_differs_from_the_peers_exactly_where_it_counts_sizes_4_connected(detections, peer):
    above = np.nan_to_num(peer["probabilities_out"].values) > 0.5
    parts, _ = ndimage.label(above)
    objects, _ = ndimage.label(above, EIGHT)
    small_parts = above & (np.bincount(parts.ravel()) < 32)[parts]
    large_objects = above & (np.bincount(objects.ravel()) >= 32)[objects]
    expected = small_parts & large_objects
    assert 0 < expected.sum() < 100
    np.testing.assert_array_equal(detections["binarized_segmentation"].values, peer["binarized"].values | expected)
    np.testing.assert_array_equal(detections["binarized_segmentation"].values ^ peer["binarized"].values, expected)


def test_stored_probabilities_give_the_same_objects(probabilities, quality, detections):
    codec = band("probabilities")
    stored = probabilities.copy()
    for name, values in probabilities.data_vars.items():
        stored[name] = values.copy(data=codec.decode(codec.encode(values.values)))
    for threshold in (0.5, 0.3, 0.5125):
        parameters = PostprocessParameters(threshold=threshold, min_object_size=32)
        direct = detections if threshold == 0.5 else postprocess(probabilities, quality, parameters)
        kept = postprocess(stored, quality, parameters)
        for suffix in ("", "-tcvis"):
            name = f"binarized_segmentation{suffix}"
            assert direct[name].values.any()
            np.testing.assert_array_equal(kept[name], direct[name])


def test_each_model_is_postprocessed_on_its_own(detections, probabilities):
    own = probabilities["probabilities-tcvis"].values
    inside = detections["extent"].values
    np.testing.assert_array_equal(detections["probabilities-tcvis"].values[inside], own[inside])
    assert np.isnan(detections["probabilities-tcvis"].values[~inside]).all()
    labels, _ = ndimage.label((own > 0.5) & inside, EIGHT)
    kept = np.bincount(labels.ravel()) >= 32
    kept[0] = False
    np.testing.assert_array_equal(detections["binarized_segmentation-tcvis"].values, kept[labels])


@pytest.mark.parametrize(
    ("parameters", "pixel", "smallest"),
    [
        ({}, 10, 9), ({}, 3, 32), ({}, 3.125, 30), ({}, 4.77, 13), ({}, 30, 9),
        ({"min_object_size": 32}, 10, 32), ({"min_object_size": 0}, 10, 0),
        ({"min_object_area_m2": 900}, 10, 9), ({"min_object_area_m2": 900}, 3, 100),
        ({"min_object_area_m2": 901}, 10, 10), ({"min_object_area_m2": 0}, 10, 0),
    ],
)  # fmt: skip
def test_the_smallest_object_suits_the_grid(parameters: dict, pixel: float, smallest: int) -> None:
    chosen = PostprocessParameters(**parameters)
    assert chosen.smallest_object(pixel**2) == smallest
    assert chosen.in_force(pixel**2) == {
        **chosen.model_dump(), "min_object_size": smallest, "min_object_area_m2": smallest * pixel**2
    }  # fmt: skip


def test_objects_are_filtered_by_area_on_the_grid_of_the_tile() -> None:
    values = np.zeros((40, 40))
    values[5:8, 5:8] = values[20:22, 20:24] = 1  # 9 and 8 pixels of 10 m
    counts = {
        area: int(tile(values, mask_erosion_size=0, **given)["binarized_segmentation"].sum())
        for area, given in {"default": {}, "800": {"min_object_area_m2": 800}, "32": {"min_object_size": 32}}.items()
    }
    assert counts == {"default": 9, "800": 17, "32": 0}


def test_one_unit_is_given() -> None:
    with pytest.raises(
        SettingsError, match=r"min_object_size \(32 pixels\) and min_object_area_m2 \(300 m2\) are both"
    ):
        PostprocessParameters(min_object_size=32, min_object_area_m2=300)
    assert PostprocessParameters(min_object_size=None, min_object_area_m2=300).smallest_object(100) == 3


def test_size_zero_does_not_erode():
    quality = np.full((40, 50), 2, np.uint8)
    quality[5, 7] = 0
    result = tile(np.ones((40, 50)), quality, mask_erosion_size=0, min_object_size=0)
    np.testing.assert_array_equal(result["extent"], quality > 0)
    np.testing.assert_array_equal(result["binarized_segmentation"], quality > 0)


def test_erosion_is_a_disk_and_spares_the_border_unless_asked():
    quality = np.full((40, 50), 2, np.uint8)
    quality[20, 25] = 0
    y, x = np.mgrid[:40, :50]
    disk = (y - 20) ** 2 + (x - 25) ** 2 <= 9
    only_mask = tile(np.zeros((40, 50)), quality, mask_erosion_size=3, edge_erosion_size=0)["extent"]
    np.testing.assert_array_equal(only_mask, ~disk)
    both = tile(np.zeros((40, 50)), quality, mask_erosion_size=3, edge_erosion_size=2)["extent"].values
    inner = np.zeros((40, 50), bool)
    inner[2:-2, 2:-2] = True
    np.testing.assert_array_equal(both, inner & ~disk)


@pytest.mark.parametrize(("level", "first_row"), [("none", 2), ("low", 5), ("high", 7)])
def test_quality_levels(level, first_row):
    quality = np.full((40, 50), 2, np.uint8)
    quality[:4], quality[4:6] = 0, 1
    result = tile(np.zeros((40, 50)), quality, quality_level=level, mask_erosion_size=1, edge_erosion_size=2)
    expected = np.zeros((40, 50), bool)
    expected[first_row:-2, 2:-2] = True
    np.testing.assert_array_equal(result["extent"], expected)


def test_a_border_wider_than_the_tile_leaves_nothing():
    assert not tile(np.ones((8, 9)), mask_erosion_size=10)["extent"].values.any()


def test_minimum_size_counts_diagonal_neighbours():
    values = np.zeros((20, 20))
    values[2:4, 2:4] = values[4:6, 4:6] = 1  # two squares that meet at a corner: 8 px
    values[10:12, 10:12] = 1  # 4 px
    kept = tile(values, mask_erosion_size=0, min_object_size=8)["binarized_segmentation"].values
    assert kept[2:6, 2:6].sum() == 8
    assert kept.sum() == 8
    assert not tile(values, mask_erosion_size=0, min_object_size=9)["binarized_segmentation"].values.any()


def test_threshold_is_exclusive_and_nan_is_no_detection():
    values = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1)), np.nan]])
    result = tile(values, mask_erosion_size=0, min_object_size=1)
    assert result["binarized_segmentation"].values.tolist() == [[False, True, False]]


def test_edge_objects_are_kept_truncated_or_dropped():
    values = np.zeros((60, 60))
    values[0:10, 20:30] = 1  # cut by the removed border
    values[20:30, 20:30] = 1  # free
    values[40:50, 40:50] = 1  # cut by the invalid area
    quality = np.full((60, 60), 2, np.uint8)
    quality[45:, 45:] = 0
    kept = tile(values, quality, mask_erosion_size=2)["binarized_segmentation"].values
    assert ndimage.label(kept, EIGHT)[1] == 3
    assert kept[2:10, 20:30].all()
    assert not kept[:2].any()
    dropped = tile(values, quality, mask_erosion_size=2, drop_edge_objects=True)["binarized_segmentation"].values
    assert dropped.sum() == 100
    assert dropped[20:30, 20:30].all()


def test_an_invalid_scene_gives_nothing():
    result = tile(np.ones((30, 30)), np.zeros((30, 30), np.uint8))
    assert not result["extent"].values.any()
    assert np.isnan(result["probabilities"].values).all()
    assert not result["binarized_segmentation"].values.any()


def test_bands_are_read_in_row_windows_once(monkeypatch):
    monkeypatch.setattr("darts_assets.tiles.row_windows.__defaults__", (16,))
    read = []

    class Recorder(xr.backends.BackendArray):
        shape, dtype = (50, 60), np.dtype("float32")

        def __getitem__(self, key):
            rows, _ = key.tuple
            read.append((rows.start, rows.stop))
            return np.zeros((rows.stop - rows.start, 60), np.float32)

    lazy = xr.Variable(("y", "x"), xr.core.indexing.LazilyIndexedArray(Recorder()))
    scene = on_grid({"quality_data_mask": np.full((50, 60), 2, np.uint8)}, grid(50, 60))
    probabilities = scene.drop_vars("quality_data_mask").assign(probabilities=lazy)
    postprocess(probabilities, scene["quality_data_mask"], PostprocessParameters())
    assert read == [(0, 16), (16, 32), (32, 48), (48, 50)]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"quality_level": "best"}, "quality_level is 'best', expected 'none', 'low' or 'high'"),
        ({"threshold": 50}, "threshold is 50"),
        ({"mask_erosion_size": -1}, "mask_erosion_size is -1"),
        ({"edge_erosion_size": -1}, "edge_erosion_size is -1"),
        ({"min_object_size": -5}, "min_object_size is -5"),
    ],
)
def test_parameters_validate_themselves(parameters, message):
    with pytest.raises(SettingsError, match=message):
        PostprocessParameters(**parameters)


def test_wrong_tiles_are_refused():
    scene = on_grid({"red": np.zeros((5, 5), np.float32)}, grid(5, 5))
    with pytest.raises(ValueError, match="no probabilities, only red"):
        postprocess(scene, scene["red"], PostprocessParameters())
    with pytest.raises(ValueError, match="quality_data_mask has shape"):
        postprocess(scene.rename(red="probabilities"), scene["red"][:3], PostprocessParameters())
