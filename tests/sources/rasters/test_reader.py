import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.errors import RasterError, SceneError
from darts_assets.sources import calibrate, fetch, open_raw, parse_item, read_item, scene_grid
from darts_assets.sources.rasters.integrity import Header
from darts_assets.sources.rasters.reader import band_attributes, scene_attributes
from darts_assets.tiles import geobox_of

ALL = ("blue", "green", "red", "nir", "rededge071", "nir09", "s2_scl")
FACTORS = {"rededge071": 2, "nir09": 6, "s2_scl": 2}


@pytest.fixture
def scene(made):
    return parse_item(read_item(str(made.write_item())))


def expanded(values: np.ndarray, factor: int) -> np.ndarray:
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def test_all_bands_come_out_on_the_finest_grid(made, scene, made_grid):
    assert scene_grid(scene, ALL) == made_grid
    raw = open_raw(scene, ALL, window_rows=70)
    assert geobox_of(raw) == made_grid
    assert raw.chunksizes == {"y": (128, 112), "x": (240,)}  # whole blocks of 64 rows
    for name in ALL:
        assert raw[name].dtype == (np.uint8 if name == "s2_scl" else np.uint16)
        assert np.array_equal(raw[name].values, expanded(made.values[name], FACTORS.get(name, 1))), name


def test_attributes_make_the_numbers_self_describing(scene):
    raw = open_raw(scene, ["blue", "s2_scl"])
    assert raw.attrs == {
        "scene_id": scene.id,
        "source": "cdse",
        "datetime": "2023-06-15T21:00:21.024000+00:00",
        "sun_azimuth": 170.5,
        "sun_elevation": 44.25,
        "tile": "08WNB",
        "processing_baseline": "05.09",
    }
    assert json.loads(json.dumps(raw.attrs)) == raw.attrs
    blue = raw["blue"].attrs
    assert (blue["scale_factor"], blue["add_offset"], blue["_FillValue"]) == (1e-4, -0.1, 0)
    assert (blue["standard_name"], blue["units"]) == ("surface_bidirectional_reflectance", "1")
    assert "scale_factor" not in raw["s2_scl"].attrs
    meanings = raw["s2_scl"].attrs["flag_meanings"].split()
    assert dict(zip(raw["s2_scl"].attrs["flag_values"], meanings, strict=True))[11] == "snow_or_ice"
    decoded = xr.decode_cf(raw)
    np.testing.assert_allclose(decoded["blue"].values, calibrate(raw)["blue"].values, atol=1e-6)


def test_platform_and_level_of_reflectance_are_attributes(scene):
    top = replace(scene.bands["blue"], asset="toa")
    assert band_attributes(top)["standard_name"] == "toa_bidirectional_reflectance"
    item = {"properties": {"platform": "sentinel-2b"}}
    attributes = scene_attributes(replace(scene, item=item, bands={"blue": top}))
    assert (attributes["platform"], attributes["reflectance"]) == ("sentinel-2b", "toa")


@pytest.mark.parametrize("rows", [1, 64, 100, 1024])
def test_stream_equals_dataset(made, scene, made_grid, rows):
    stream = fetch(scene, ALL, window_rows=rows)
    assert stream.geobox == made_grid
    assert stream.bands == ALL
    whole = stream.collect()
    xr.testing.assert_identical(whole.drop_attrs(), open_raw(scene, ALL).compute().drop_attrs())
    assert whole.attrs == open_raw(scene, ALL).attrs
    heights = [window.sizes["y"] for window in fetch(scene, ALL, window_rows=rows).windows]
    assert heights == {1: [64, 64, 64, 48], 64: [64, 64, 64, 48], 100: [128, 112], 1024: [240]}[rows]


def test_coarse_bands_later_on_the_grid_of_the_first(made, scene, made_grid):
    raw = open_raw(scene, ["rededge071"], grid=made_grid, window_rows=1)
    assert geobox_of(raw) == made_grid
    assert raw.chunksizes["y"] == (128, 112)  # blocks of 64 rows of 20 m
    assert np.array_equal(raw["rededge071"].values, expanded(made.values["rededge071"], 2))
    assert scene_grid(scene, ["rededge071"]).shape == (120, 120)
    with pytest.raises(RasterError, match=r"band rededge071.* covers .*, the other bands"):
        open_raw(scene, ["rededge071"], grid=made_grid[:100, :])


def test_blocks_of_whole_files_do_not_set_the_window(made, raster_writer):
    striped = {"tiled": False, "blockxsize": None, "blockysize": 1}
    raster_writer(made.path("B02_10m"), made.values["blue"], 10, **striped)
    del made.item["assets"]["B02_10m"]["file:size"]
    scene = parse_item(read_item(str(made.write_item())))
    assert open_raw(scene, ["blue"], window_rows=100).chunksizes["y"] == (100, 100, 40)


def test_unknown_bands_are_named(scene):
    with pytest.raises(SceneError, match=r"has no band swir16; it has blue, green"):
        open_raw(scene, ["blue", "swir16"])
    with pytest.raises(SceneError, match="no band was requested"):
        fetch(scene, [])


def test_real_scene_equals_rasterio(real_item, caplog):
    scene = parse_item(real_item)
    bands = ["blue", "green", "red", "nir", "s2_scl"]
    with caplog.at_level(logging.WARNING):
        stream = fetch(scene, bands)
    (warning,) = caplog.records
    assert "grids of files differ from the item's and are used" in warning.message
    assert "1098 x 1098 px of 100 m" in warning.message
    assert "in the item: 10980 x 10980 px of 10 m" in warning.message
    whole = stream.collect()
    for name in bands:
        with rasterio.open(scene.bands[name].href) as file:
            values = file.read(1)
            if name != "s2_scl":
                assert stream.geobox == GeoBox(file.shape, file.transform, "EPSG:32629")
        assert np.array_equal(whole[name].values, expanded(values, 2) if name == "s2_scl" else values), name


def test_real_jp2(made, real_jp2):
    for asset in ("B02_10m", "B03_10m", "B04_10m", "B08_10m"):
        made.item["assets"][asset] = {"href": str(real_jp2), "proj:code": "EPSG:32631", "proj:transform": None}
    made.item["assets"] = {key: asset for key, asset in made.item["assets"].items() if key.endswith("10m")}
    scene = parse_item(made.item)
    raw = open_raw(scene, ["blue"])
    assert raw.chunksizes["y"][0] % 192 == 0
    with rasterio.open(real_jp2) as file:
        assert geobox_of(raw) == GeoBox(file.shape, file.transform, "EPSG:32631")
        assert np.array_equal(raw["blue"].values, file.read(1))


def test_real_clip_with_all_bands_in_one_file_and_no_scl(shared, caplog):
    (path,) = (shared / "data" / "rts_digitization_experiment" / "peel" / "data").glob("S2_*.tif")
    names = ["blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir"]
    item = {
        "type": "Feature",
        "id": path.stem,
        "properties": {"datetime": "2021-08-21T21:00:19Z", "proj:code": "EPSG:32608"},
        "assets": {
            "data": {"href": str(path), "bands": [{"eo:common_name": n, "scale": 1e-4, "offset": 0} for n in names]}
        },
    }
    scene = parse_item(item)
    raw = open_raw(scene, ["nir", *names[:3]])
    with rasterio.open(path) as file:
        numbers = file.read()
    for name in ("blue", "green", "red", "nir"):
        assert np.array_equal(raw[name].values, numbers[names.index(name)]), name
    calibrated = calibrate(raw)
    assert calibrated.attrs["scl"] == "absent"
    assert any("no scene classification" in record.message for record in caplog.records)
    used = numbers[[0, 1, 2, 6]]
    assert np.array_equal(calibrated["quality_data_mask"].values, np.where((used > 0).all(axis=0), 2, 0))
    np.testing.assert_allclose(calibrated["nir"].values, numbers[6] * 1e-4, atol=1e-6)


VRT = """<VRTDataset rasterXSize="240" rasterYSize="240"><SRS>EPSG:32608</SRS>
<GeoTransform>500000, 10, 0, 7500000, 0, -10</GeoTransform><VRTRasterBand dataType="UInt16" band="1"
subClass="VRTRawRasterBand"><SourceFilename relativetoVRT="0">{other}</SourceFilename><PixelOffset>2</PixelOffset>
<LineOffset>480</LineOffset></VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize("remote", [False, True])
def test_a_band_that_refers_to_another_file_is_refused(made, web, tmp_path, monkeypatch, remote):
    monkeypatch.setattr("darts_assets.remote.retry.BACKOFF", (0.0, 0.0))
    secret = tmp_path / "secret"
    secret.write_bytes(b"AWS_SECRET_ACCESS_KEY=secret".ljust(240 * 480))
    made.path("B02_10m").write_text(VRT.format(other=secret))
    made.item["assets"]["B02_10m"] |= {"href": f"{web.url}/B02_10m.tif" if remote else "./B02_10m.tif"}
    del made.item["assets"]["B02_10m"]["file:size"]
    scene = parse_item(read_item(str(made.write_item())))
    with pytest.raises(RasterError, match=r"band blue.*cannot be opened as a raster"):
        open_raw(scene, ["blue"])
    # A server may send another file after the check.
    monkeypatch.setattr("darts_assets.sources.rasters.reader.check_files", lambda *_, **__: headers)
    headers = {"blue": Header(scene.bands["blue"].grid, 240)}
    with pytest.raises(RasterError, match=r"band blue.*cannot be read"):
        open_raw(scene, ["blue"]).compute()


def test_coarser_grids_use_overviews_as_odc_stac(made, scene, made_grid):
    coarse = made_grid.zoom_out(4)
    with rasterio.open(made.path("B02_10m"), "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.nearest)
        overview = file.read(1, out_shape=tuple(coarse.shape))
    del made.item["assets"]["B02_10m"]["file:size"]
    scene = parse_item(read_item(str(made.write_item())))
    assert np.array_equal(open_raw(scene, ["blue"], grid=coarse)["blue"].values, overview)
