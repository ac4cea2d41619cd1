import copy
import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.bands import OPTICAL, VISIBLE_NIR
from darts_assets.errors import SceneError
from darts_assets.sources import parse_item
from darts_assets.sources.sentinel2.parse_item import asset_keys


def items_in(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("type") == "Feature" and "assets" in value:
            yield value
        else:
            for part in value.values():
                yield from items_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from items_in(part)


def items_below(folder: Path) -> list[dict[str, Any]]:
    files = sorted(path for pattern in ("*.json", "*.geojson") for path in folder.rglob(pattern))
    return [item for path in files for item in items_in(json.loads(path.read_text()))]


def test_every_real_cdse_item_parses(shared):
    items = items_below(shared / "data" / "cdse_stac")
    assert len(items) >= 13
    for item in items:
        scene = parse_item(item)
        assert scene.id == item["id"]
        assert scene.source == "cdse"
        assert tuple(scene.bands) == (*OPTICAL, "s2_scl")
        assert f"_T{scene.tile}_" in scene.id
        assert f"_N{scene.processing_baseline.replace('.', '')}_" in scene.id
        assert scene.epsg % 100 == int(scene.tile[:2])
        assert scene.epsg // 100 == (327 if scene.tile[2] < "N" else 326)
        assert {(band.scale, band.offset) for name, band in scene.bands.items() if name != "s2_scl"} == {(1e-4, -0.1)}
        assert [scene.bands[name].grid.shape for name in ("blue", "swir16", "nir09", "s2_scl")] == [
            (10980, 10980), (5490, 5490), (1830, 1830), (5490, 5490),
        ]  # fmt: skip
        assert scene.sun_azimuth is not None
        assert scene.sun_elevation is not None


@pytest.mark.parametrize(("tile", "epsg"), [("01WCP", 32601), ("01KAB", 32701)])
def test_antimeridian_items(shared, tile, epsg):
    items = items_below(shared / "data" / "cdse_stac" / "derived_from_safe")
    (item,) = (item for item in items if f"_T{tile}_" in item["id"])
    scene = parse_item(item)
    assert (scene.tile, scene.epsg) == (tile, epsg)
    assert scene.geometry == item["geometry"]  # cut at the antimeridian: valid


def test_official_cdse_example_in_full(shared):
    (item,) = items_below(shared / "data" / "cdse_stac" / "official_example_T13VEK")
    scene = parse_item(item)
    assert scene.datetime == dt.datetime(2022, 2, 17, 18, 34, 31, 24000, dt.UTC)
    assert (scene.cloud_cover, scene.snow_cover) == (41.21, 58.787221)
    assert scene.sun_azimuth == 171.648044763495
    blue = scene.bands["blue"]
    assert blue.grid == GeoBox((10980, 10980), Affine(10, 0, 499980, 0, -10, 7000020), "EPSG:32613")
    assert (blue.asset, blue.index, blue.nodata, blue.size) == ("B02_10m", 1, 0, 134936576)
    assert blue.checksum == "1620224759635fcc8684cf2c5de1c1e96e222558baeba515e8768cecf9842ed70fd5"
    assert (scene.bands["s2_scl"].scale, scene.bands["s2_scl"].offset) == (1, 0)
    assert scene.item == item


@pytest.mark.parametrize(
    ("folder", "scene_id", "source", "epsg", "tile", "baseline", "offset"),
    [
        ("stactools_sentinel2", "S2B_T22HBD_20210122T133224_L2A", "earth_search", 32722, "22HBD", "02.14", 0),
        ("stactools_sentinel2", "S2A_T07HFE_20190212T192646_L2A", "earth_search", 32707, "07HFE", "02.12", 0),
        ("stactools_sentinel2", "S2A_T01WCP_20230625T234624_L2A", "earth_search", 32601, "01WCP", "05.09", -0.1),
        ("stactools_sentinel2", "S2A_T01KAB_20230821T221944_L2A", "earth_search", 32701, "01KAB", "05.09", -0.1),
        (
            "stactools_sentinel2", "S2A_OPER_MSI_L2A_TL_VGS1_20220401T110010_A035382_T34LBP",
            "earth_search", 32734, "34LBP", "04.00", -0.1,
        ),
        ("rio_tiler_pds", "S2A_29RKH_20200219_0_L2A", "earth_search", 32629, "29RKH", "02.14", 0),
        # boa_offset_applied is true and raster:bands still says -0.1
        ("geoengine", "S2B_30VVJ_20260327_0_L2A", "earth_search", 32630, "30VVJ", "05.12", 0),
        ("geoengine", "S2B_36MWC_20210923_0_L2A", "sentinel2_bands", 32736, "36MWC", "03.01", 0),
        ("other_stac", "S2A_28QCH_20200714_0_L2A", "sentinel2_bands", 32628, "28QCH", "02.14", 0),
        (
            "other_stac", "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531",
            "planetary_computer", 32606, "06VVN", "02.12", 0,
        ),
        (
            "other_stac", "S2B_MSIL2A_20240419T095549_R122_T47XML_20240419T123458",
            "planetary_computer", 32647, "47XML", "05.10", -0.1,
        ),
    ],
)  # fmt: skip
def test_items_of_other_providers(shared, folder, scene_id, source, epsg, tile, baseline, offset):
    item = next(item for item in items_below(shared / "data" / folder) if item["id"] == scene_id)
    scene = parse_item(item)
    assert (scene.source, scene.epsg, scene.tile, scene.processing_baseline) == (source, epsg, tile, baseline)
    assert {band.offset for name, band in scene.bands.items() if name != "s2_scl"} == {offset}
    assert {band.scale for name, band in scene.bands.items() if name != "s2_scl"} == {1e-4}
    assert len(scene.bands) == 13
    assert scene.has_scl


def test_no_real_item_crashes(shared):
    outcomes = []
    for folder in ("other_stac", "stactools_sentinel2", "geoengine", "planet_stactools", "planet_client"):
        for item in items_below(shared / "data" / folder):
            try:
                outcomes.append(parse_item(item).source)
            except SceneError as error:
                outcomes.append("refused" if item["id"] in str(error) else f"unnamed: {item['id']}")
    assert outcomes.count("sentinel2_bands") + outcomes.count("planetary_computer") >= 19
    assert outcomes.count("planetary_computer") >= 5
    assert outcomes.count("earth_search") >= 6
    assert outcomes.count("refused") >= 8  # two of them are Level-1C
    assert set(outcomes) == {"sentinel2_bands", "planetary_computer", "earth_search", "refused"}


def test_sun_elevation_is_not_the_zenith(shared):
    items = items_below(shared / "data" / "other_stac" / "stac_geoparquet")
    item = next(item for item in items if item["id"].endswith("T47XML_20240419T123458"))
    scene = parse_item(item)
    assert scene.sun_elevation == 90 - item["properties"]["s2:mean_solar_zenith"]
    assert scene.sun_azimuth == item["properties"]["s2:mean_solar_azimuth"]


def test_several_bands_in_one_file_by_common_name():
    names = ["blue", "green", "red", "rededge071", "nir"]
    item = {
        "id": "peel",
        "properties": {"datetime": "2021-08-21T21:00:19Z", "proj:epsg": 32608},
        "assets": {
            "preview": {"href": "p.png", "roles": ["overview"], "bands": [{"eo:common_name": "red"}]},
            "data": {"href": "d.tif", "bands": [{"eo:common_name": n, "scale": 1e-4, "offset": 0} for n in names]},
        },
    }
    scene = parse_item(item)
    assert scene.source == "common_names"
    assert {name: band.index for name, band in scene.bands.items()} == {
        "blue": 1, "green": 2, "red": 3, "nir": 5, "rededge071": 4,
    }  # fmt: skip
    assert not scene.has_scl
    item["assets"]["more"] = {"href": "m.tif", "eo:bands": [{"common_name": "red"}]}
    with pytest.raises(SceneError, match="assets data and more both claim to be band red"):
        parse_item(item)


@pytest.fixture
def item(made) -> dict[str, Any]:
    return copy.deepcopy(made.item)


@pytest.mark.parametrize(("version", "offset"), [("02.14", 0.0), ("03.01", 0.0), ("04.00", -0.1), ("05.11", -0.1)])
def test_offset_by_baseline_where_the_item_is_silent(item, version, offset):
    for asset in item["assets"].values():
        asset.pop("raster:scale", None)
        asset.pop("raster:offset", None)
    item["properties"]["processing:version"] = version
    item["id"] = item["id"].replace("_N0509", "")
    assert {(band.scale, band.offset) for name, band in parse_item(item).bands.items() if name != "s2_scl"} == {
        (1e-4, offset)
    }


PLACES: list[tuple[str, ...]] = [
    ("raster:offset",), ("offset",), ("raster:bands", "raster:offset"), ("raster:bands", "offset"),
    ("bands", "raster:offset"), ("bands", "offset"),
]  # fmt: skip
"""Where an item may declare the offset of a band; an earlier place has precedence over a later one."""


@pytest.mark.parametrize("first", range(len(PLACES) + 1))
def test_precedence_of_declared_offsets(item, first):
    asset = item["assets"]["B02_10m"]
    del asset["raster:offset"]
    for number, place in enumerate(PLACES[first:], start=first):
        holder = asset if len(place) == 1 else asset.setdefault(place[0], [{}])[0]
        holder[place[-1]] = -0.01 * (number + 2)
    declared = [-0.01 * (number + 2) for number in range(len(PLACES))]
    expected = [*declared, -0.1][first]  # at last that of the processing baseline, 05.09
    assert parse_item(item).bands["blue"].offset == expected
    assert parse_item(item).bands["green"].offset == -0.1


@pytest.mark.parametrize("place", [("raster:scale",), ("scale",), ("raster:bands", "scale"), ("bands", "raster:scale")])
def test_declared_scales_have_precedence_over_the_default(item, place):
    asset = item["assets"]["B02_10m"]
    del asset["raster:scale"]
    assert parse_item(item).bands["blue"].scale == 1e-4
    holder = asset if len(place) == 1 else asset.setdefault(place[0], [{}])[0]
    holder[place[-1]] = 2e-5
    assert parse_item(item).bands["blue"].scale == 2e-5


def test_raster_bands_belong_to_the_bands_of_a_file():
    names = ("blue", "green", "red", "nir")
    item = {
        "id": "some_scene",
        "properties": {"datetime": "2021-08-21T21:00:19Z", "proj:epsg": 32608, "processing:version": "05.09"},
        "assets": {
            "data": {
                "href": "d.tif",
                "eo:bands": [{"common_name": name} for name in names],
                "raster:bands": [{"scale": 1e-4, "offset": -n / 100} for n in range(3)],
            }
        },
    }
    scene = parse_item(item)
    assert [scene.bands[name].offset for name in names] == [0, -0.01, -0.02, -0.1], "the fourth by its baseline"


def test_item_wins_over_baseline(item):
    for asset in item["assets"].values():
        asset["raster:offset"] = 0
    assert {band.offset for band in parse_item(item).bands.values()} == {0}


@pytest.mark.parametrize("prefix", ["sentinel", "earthsearch"])
def test_an_applied_offset_wins_over_item_and_baseline(item, prefix):
    item["properties"][f"{prefix}:boa_offset_applied"] = True
    assert {band.offset for band in parse_item(item).bands.values()} == {0}
    for asset in item["assets"].values():
        asset.pop("raster:offset", None)
    assert {band.offset for band in parse_item(item).bands.values()} == {0}


@pytest.mark.parametrize("flag", [False, "true"])
def test_a_flag_that_is_not_true_decides_nothing(item, flag):
    item["properties"]["earthsearch:boa_offset_applied"] = flag
    scene = parse_item(item)
    assert {band.offset for name, band in scene.bands.items() if name != "s2_scl"} == {None}
    assert scene.offset_evidence == (
        "undecided: processing baseline 05.09 (id) has -0.1 in ESA's files; "
        f"earthsearch:boa_offset_applied is {flag}, also for scenes from which the offset was taken off"
    )


def test_baseline_from_product_name(item):
    del item["properties"]["processing:version"]
    assert parse_item(item).processing_baseline == "05.09"


def test_the_scale_of_an_unknown_sensor_must_be_declared(item):
    del item["properties"]["processing:version"]
    item["id"] = "some_scene"
    names = {"B02_10m": "blue", "B03_10m": "green", "B04_10m": "red", "B08_10m": "nir"}
    item["assets"] = {name: {**item["assets"][key], "eo:bands": [{"common_name": name}]} for key, name in names.items()}
    item["assets"] = {f"band_{name}": asset for name, asset in item["assets"].items()}
    assert parse_item(item).bands["blue"].offset == -0.1
    del item["assets"]["band_green"]["raster:scale"]
    with pytest.raises(
        SceneError, match=r"some_scene, band green \(asset band_green\): reflectance needs raster:scale"
    ):
        parse_item(item)


JP2_KEYS = {
    "B02_10m": "blue-jp2",
    "B03_10m": "green-jp2",
    "B04_10m": "red-jp2",
    "B08_10m": "nir-jp2",
    "SCL_20m": "scl-jp2",
}


@pytest.mark.parametrize("flag", [True, False])
def test_items_of_earth_search_with_originals_only(item, flag):
    item["id"] = "S2A_08WNB_20230615_0_L2A"
    item["properties"] |= {"earthsearch:boa_offset_applied": flag}
    item["assets"] = {JP2_KEYS[key]: item["assets"][key] for key in JP2_KEYS}
    scene = parse_item(item)
    assert scene.source == "earth_search_jp2"
    assert {name: band.asset for name, band in scene.bands.items()} == {
        "blue": "blue-jp2", "green": "green-jp2", "red": "red-jp2", "nir": "nir-jp2", "s2_scl": "scl-jp2",
    }  # fmt: skip
    assert scene.bands["red"].offset == -0.1  # the flag is about the GeoTIFFs, which the item does not have


def test_originals_beside_the_provider_s_own_files_are_not_used(item):
    own = {JP2_KEYS[key].removesuffix("-jp2"): item["assets"][key] for key in JP2_KEYS}
    item["assets"] = own | {f"{key}-jp2": {"href": "s3://bucket/B.jp2"} for key in own}
    scene = parse_item(item)
    assert scene.source == "earth_search"
    assert {band.asset for band in scene.bands.values()} == set(own)


@pytest.mark.parametrize("key", ["scl", "SCL_20m", "scl-jp2", "image.SCL"])
def test_other_layouts_keep_the_scene_classification(item, key, caplog):
    renamed = {"B02_10m": "blue", "B03_10m": "green", "B04_10m": "red", "B08_10m": "nir"}
    assets = {f"band-{n}": {**item["assets"][k], "eo:bands": [{"common_name": n}]} for k, n in renamed.items()}
    item["assets"] = assets | {key: item["assets"]["SCL_20m"]}
    scene = parse_item(item)
    assert (scene.source, scene.bands["s2_scl"].asset) == ("common_names", key)
    del item["assets"][key]
    assert not parse_item(item).has_scl


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "S2A_MSIL1C_20230615T210021_N0509_R100_T08WNB_20230616T001122"),
        ("id", "S2A_08WNB_20230615_0_L1C"),
        ("collection", "sentinel-2-l1c"),
        ("s2:product_type", "S2MSI1C"),
        ("product:type", "S2MSI1C"),
        ("processing:level", "L1"),
        ("processing:level", "Level-1C"),
        ("s2:product_uri", "S2A_MSIL1C_20230615T210021_N0509_R100_T08WNB_20230616T001122.SAFE"),
    ],
)
def test_level_1c_is_refused(item, field, value):
    (item if field in ("id", "collection") else item["properties"])[field] = value
    with pytest.raises(SceneError, match=f"is Level-1C \\({field} {value}\\): .* Level-2A, was expected"):
        parse_item(item)


@pytest.mark.parametrize(
    "level", [("processing:level", "L2"), ("product:type", "S2MSI2A"), ("processing:level", "L2A")]
)
def test_level_2a_is_not_refused(item, level):
    item["properties"] |= dict([level])
    item["collection"] = "sentinel-2-l2a"
    item["id"] = "S2A_MSIL2A_20230615T210021_N0509_R100_T01LAC_20230616T001122"
    assert parse_item(item).id == item["id"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "170.5", True])
def test_sun_angles_that_are_no_numbers_are_unknown(item, value):
    item["properties"] |= {"view:sun_azimuth": value, "view:sun_elevation": value}
    scene = parse_item(item)
    assert (scene.sun_azimuth, scene.sun_elevation) == (None, None)
    item["properties"] |= {"s2:mean_solar_azimuth": 171.0, "s2:mean_solar_zenith": 50.0}
    scene = parse_item(item)
    assert (scene.sun_azimuth, scene.sun_elevation) == (171, 40)


@pytest.mark.parametrize("band", VISIBLE_NIR)
def test_missing_band_is_named(item, band):
    key = asset_keys("cdse")[band]
    del item["assets"][key]
    with pytest.raises(SceneError, match=rf"layout cdse: band {band} \({key}\) is missing; its assets: B0"):
        parse_item(item)


def test_unknown_layout_shows_what_is_expected(item):
    item["assets"] = {"image": {"href": "x.tif"}}
    with pytest.raises(SceneError, match=r"cdse: B02_10m.*earth_search: blue, .*common names.*Its assets: image"):
        parse_item(item)


def test_two_layouts_are_ambiguous(item):
    item["assets"]["red"] = item["assets"]["B04_10m"]
    with pytest.raises(SceneError, match="fits several layouts \\(cdse, earth_search\\)"):
        parse_item(item)


def test_two_crs_are_named(item):
    item["assets"]["B08_10m"]["proj:code"] = "EPSG:32609"
    with pytest.raises(SceneError, match=r"several CRSs \(.*EPSG:32609: B08_10m.*\); one UTM zone"):
        parse_item(item)


def test_crs_of_the_item_where_assets_have_none(item):
    for asset in item["assets"].values():
        asset["proj:code"] = None
    with pytest.raises(SceneError, match=r"its CRS is none; a UTM zone was expected"):
        parse_item(item)
    item["properties"]["proj:epsg"] = 32608
    assert parse_item(item).epsg == 32608


def test_unused_assets_may_have_any_crs(item):
    item["assets"]["thumbnail"] = {"href": "t.jpg", "proj:code": "EPSG:4326"}
    assert parse_item(item).epsg == 32608


@pytest.mark.parametrize("code", ["EPSG:4326", "EPSG:32661", "EPSG:32600", "EPSG:3413", "IAU_2015:30100"])
def test_only_utm(item, code):
    for asset in item["assets"].values():
        asset["proj:code"] = code
    with pytest.raises(SceneError, match=f"its CRS is {code}"):
        parse_item(item)


@pytest.mark.parametrize("scene_id", ["", "a/b", "..", "a..b", "a b", "ü", ".hidden", "x" * 300, None, 7, "a\n"])
def test_ids_must_name_a_partition_and_a_folder(item, scene_id):
    item["id"] = scene_id
    with pytest.raises(SceneError, match=r"letters, digits, .* such as S2A_MSIL2A_"):
        parse_item(item)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("raster:scale", "big", "its scale is 'big'"),
        ("raster:scale", 0, "its scale is 0"),
        ("raster:offset", float("nan"), "its offset is nan"),
        ("nodata", 65535, "its nodata value is 65535"),
        ("proj:shape", [10], "are not a grid"),
        ("proj:transform", [10, 0, 5], "are not a grid"),
        ("href", None, "it has no href"),
    ],
)
def test_numbers_that_make_no_sense(item, key, value, message):
    item["assets"]["B02_10m"][key] = value
    with pytest.raises(SceneError, match=rf"band blue \(asset B02_10m\): .*{message}"):
        parse_item(item)


@pytest.mark.parametrize("time", [None, "yesterday", "2023-13-45T00:00:00Z"])
def test_datetime_must_be_a_time(item, time):
    item["properties"]["datetime"] = time
    with pytest.raises(SceneError, match="its datetime is"):
        parse_item(item)


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon"},
        {"type": "Bowtie", "coordinates": [[0, 1]]},
        {"type": "Polygon", "coordinates": "nonsense"},
        {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]},
        {"type": "Polygon", "coordinates": [[[179, 66], [-179, 66], [-179, 67], [179, 67], [179, 66]]]},
    ],
)
def test_unusable_footprints_are_dropped(item, geometry):
    item["geometry"] = geometry
    assert parse_item(item).geometry is None


def test_usable_footprint_is_kept(item):
    item["geometry"] = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    assert parse_item(item).geometry == item["geometry"]
