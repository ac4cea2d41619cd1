from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from darts_assets.errors import SceneError
from darts_assets.sources import S2_QUALITY, calibrate, parse_item
from darts_assets.sources.sentinel2.calibrate import with_offsets
from darts_assets.tiles import geobox_of, on_grid


@pytest.fixture
def raw(made_grid) -> xr.Dataset:
    """One row a class of the scene classification, one column a case; the rest is ordinary."""
    shape = tuple(made_grid.shape)
    scl = np.full(shape, 4, np.uint8)
    scl[:13, :3] = np.arange(13, dtype=np.uint8)[:, np.newaxis]
    blue, nir = np.full(shape, 1500, np.uint16), np.full(shape, 4000, np.uint16)
    blue[:13, 1] = 0
    nir[:13, 2] = 0
    nir[20, 20] = 65535
    dataset = on_grid({"blue": blue, "nir": nir, "s2_scl": scl}, made_grid, {"scene_id": "s", "tile": "08WNB"})
    for name, offset in (("blue", -0.1), ("nir", 0.0)):
        dataset[name].attrs |= {"scale_factor": 1e-4, "add_offset": offset, "_FillValue": 0}
    return dataset


@pytest.mark.parametrize("lazy", [False, True])
def test_reflectance_and_quality(raw, lazy):
    calibrated = calibrate(raw.chunk({"y": 7}) if lazy else raw)
    assert all(isinstance(values.data, da.Array) == lazy for values in calibrated.data_vars.values())
    assert set(calibrated.data_vars) == {"blue", "nir", "quality_data_mask", "s2_scl"}
    assert calibrated["blue"].dtype == np.float32
    assert calibrated["quality_data_mask"].dtype == np.uint8
    assert geobox_of(calibrated) == geobox_of(raw)
    assert calibrated.attrs == raw.attrs
    calibrated = calibrated.compute()
    np.testing.assert_allclose(calibrated["blue"].values[30], 0.05, atol=1e-7)
    np.testing.assert_allclose(calibrated["nir"].values[30], 0.4, atol=1e-7)
    assert calibrated["nir"].values[20, 20] == pytest.approx(6.5535)
    mask = calibrated["quality_data_mask"].values
    assert mask[:13, 0].tolist() == [0, 0, 2, 1, 2, 2, 2, 2, 1, 1, 2, 1, 0]
    assert not mask[:13, 1:3].any()
    assert (mask[13:] == 2).all()
    expected_nan = np.zeros(mask.shape, bool)
    expected_nan[:13, 1:3] = True
    expected_nan[0, 0] = True
    for name in ("blue", "nir"):
        assert np.array_equal(np.isnan(calibrated[name].values), expected_nan)


def test_quality_is_a_table(raw):
    calibrated = calibrate(raw, {**S2_QUALITY, 10: 1, 4: 0})
    assert calibrated["quality_data_mask"].values[[10, 4], 0].tolist() == [1, 0]
    with pytest.raises(ValueError, match="quality must be 0, 1 or 2"):
        calibrate(raw, {4: 3})


@pytest.mark.parametrize(("choice", "expected"), [("auto", [-0.1, 0.0]), ("0", [0.0, 0.0]), ("-0.1", [-0.1, -0.1])])
def test_offsets_are_those_of_the_scene_and_not_those_stored(raw, made, choice, expected):
    scene = parse_item(made.item)
    scene = replace(scene, bands={**scene.bands, "nir": replace(scene.bands["nir"], offset=0.0)})
    raw["blue"].attrs["add_offset"] = 7.0
    del raw["nir"].attrs["add_offset"]
    calibrated = with_offsets(raw, scene, choice)
    assert [calibrated[name].attrs["add_offset"] for name in ("blue", "nir")] == expected
    assert calibrated["s2_scl"].attrs == raw["s2_scl"].attrs
    assert raw["blue"].attrs["add_offset"] == 7


def test_a_scene_whose_offset_is_undecided_is_refused(raw, made):
    made.item["properties"]["earthsearch:boa_offset_applied"] = False
    scene = parse_item(made.item)
    with pytest.raises(SceneError, match=rf"{scene.id}: .*\(blue, nir\) is undecided: .* config `offset` .* to 0 "):
        with_offsets(raw, scene)
    assert with_offsets(raw, scene, "0")["blue"].attrs["add_offset"] == 0


def test_the_log_has_the_evidence_and_what_contradicts_it(raw, made, caplog):
    caplog.set_level("INFO")
    with_offsets(raw, parse_item(made.item))
    made.item["id"] = made.item["id"].replace("N0509", "N0301")
    with_offsets(raw, parse_item(made.item))
    assert [(record.levelname, record.getMessage().partition(": ")[2]) for record in caplog.records] == [
        ("INFO", "offset -0.1, by processing baseline 05.09 (id)"),
        (
            "WARNING",
            "offset 0, by processing baseline 03.01 (id); contradicted by processing baseline 05.09 "
            "(processing:version) (-0.1), the sensing time, 2023-06-15 (-0.1), the offset in the item (-0.1), not used",
        ),
    ]


def test_without_scene_classification(raw, caplog):
    calibrated = calibrate(raw.drop_vars("s2_scl"))
    assert calibrated.attrs == {**raw.attrs, "scl": "absent"}
    mask = calibrated["quality_data_mask"].values
    assert not mask[:13, 1:3].any()
    assert mask.sum() == 2 * (mask.size - 26)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "scene s has no scene classification" in caplog.text


def test_numbers_from_a_store(raw, tmp_path):
    raw.to_zarr(tmp_path / "raw.zarr", consolidated=False)
    assert zarr.open(tmp_path / "raw.zarr")["blue"].dtype == np.uint16
    stored = xr.open_zarr(tmp_path / "raw.zarr", consolidated=False, mask_and_scale=False, decode_coords="all")
    xr.testing.assert_equal(calibrate(stored).drop_vars("spatial_ref"), calibrate(raw).drop_vars("spatial_ref"))
    decoded = xr.open_zarr(tmp_path / "raw.zarr", consolidated=False, decode_coords="all")
    with pytest.raises(ValueError, match="band blue has no _FillValue; open its store with mask_and_scale=False"):
        calibrate(decoded)


def test_no_optical_band(raw):
    with pytest.raises(ValueError, match="no optical band in s2_scl"):
        calibrate(raw[["s2_scl"]])
