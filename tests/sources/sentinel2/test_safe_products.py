"""SAFE products in folders and archives: which items they become, and that their pixels are those of GeoTIFFs."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from darts_assets.errors import DartsError, RasterError, SceneError, SettingsError
from darts_assets.scene import Scene
from darts_assets.sources import ANY_SCENES, S3Options, SourceOptions, read_item
from darts_assets.sources.sentinel2.safe_products import is_safe_location, read_safe_items
from tests.sample_data.safe_products import (
    GRANULE,
    NAMES,
    PRODUCT,
    RESOLUTIONS,
    band_path,
    pixels,
    product_files,
    write_folder,
    write_zip,
)
from tests.servers.s3.eodata import EPSG, raster
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

HERE, OPTIONS = S3Options(), SourceOptions()


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    return pixels()


@pytest.fixture(scope="module")
def files(values: dict[str, np.ndarray]) -> dict[str, bytes]:
    return product_files(values)


def scene_at(href: object) -> Scene:
    (item,) = ANY_SCENES.read(str(href), HERE)
    return ANY_SCENES.parse(json.loads(json.dumps(item)))


def problem(href: object, s3: S3Options = HERE) -> str:
    """The message for a product that cannot be registered: one line, which ends the sentence."""
    with pytest.raises(DartsError) as caught:
        ANY_SCENES.read(str(href), s3)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_equal_to_cogs(href: object, values: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Compare reflectance, quality and attributes with those of the same numbers in CDSE's layout as GeoTIFFs."""
    scene = scene_at(href)
    folder = tmp_path / "cogs"
    folder.mkdir(exist_ok=True)
    assets = {}
    for band, numbers in values.items():
        name = f"{band}_{RESOLUTIONS[band]}m"
        (folder / f"{name}.tif").write_bytes(raster(numbers, RESOLUTIONS[band], "COG"))
        assets[name] = {"href": f"./{name}.tif", "proj:code": f"EPSG:{EPSG}"}
        if band != "SCL":
            assets[name] |= {"raster:scale": 0.0001, "raster:offset": -0.1}
    properties: dict[str, Any] = {
        "datetime": "2023-06-15T21:00:21.024Z",
        "view:sun_azimuth": 170.5,
        "view:sun_elevation": 44.25,
    }
    item = {"type": "Feature", "id": PRODUCT, "properties": properties, "assets": assets}
    (folder / "item.json").write_text(json.dumps(item))
    other = ANY_SCENES.parse(read_item(str(folder / "item.json")))
    assert set(scene.bands) == set(other.bands) == set(NAMES)
    assert (scene.id, scene.datetime, scene.epsg, scene.tile) == (other.id, other.datetime, other.epsg, other.tile)
    assert (scene.sun_azimuth, scene.sun_elevation) == (other.sun_azimuth, other.sun_elevation)
    raw = ANY_SCENES.fetch(scene, list(NAMES), OPTIONS).collect()
    expected = ANY_SCENES.fetch(other, list(NAMES), OPTIONS).collect()
    for name, band in NAMES.items():
        times = RESOLUTIONS[band] // 10
        assert np.array_equal(raw[name].values, values[band].repeat(times, 0).repeat(times, 1))
        assert np.array_equal(raw[name].values, expected[name].values)
    tile, reference = (
        ANY_SCENES.calibrate(ANY_SCENES.open_raw(each, list(NAMES), OPTIONS), {}) for each in (scene, other)
    )
    for name in ("blue", "green", "red", "nir", "quality_data_mask"):
        assert np.array_equal(tile[name].values, reference[name].values, equal_nan=True)


def test_a_folder_and_archives_have_the_pixels_of_geotiffs(
    tmp_path: Path, values: dict[str, np.ndarray], files: dict[str, bytes]
) -> None:
    for href in (
        write_folder(tmp_path, files),
        write_zip(tmp_path / "stored.SAFE.zip", files),
        write_zip(tmp_path / "deflated.zip", files, compression=zipfile.ZIP_DEFLATED),
    ):
        assert_equal_to_cogs(href, values, tmp_path)


def test_what_the_item_states(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = write_zip(tmp_path / f"{PRODUCT}.SAFE.zip", files)
    scene = scene_at(path)
    assert (scene.id, scene.source, scene.processing_baseline) == (PRODUCT, "safe", "05.09")
    assert (scene.cloud_cover, scene.snow_cover) == (3.5, 1.25)
    assert (scene.sun_azimuth, scene.sun_elevation) == (170.5, 44.25)
    assert scene.offset_evidence == "-0.1, by BOA_ADD_OFFSET of the product"
    blue = scene.bands["blue"]
    assert blue.href == f"{path}!/{PRODUCT}.SAFE/{band_path('B02')}"
    assert (blue.scale, blue.offset, blue.size) == (1e-4, -0.1, len(files[band_path("B02")]))
    assert blue.grid is not None
    assert blue.grid.shape == (240, 240)
    raw = ANY_SCENES.open_raw(scene, ["blue", "s2_scl"], OPTIONS)
    assert raw.attrs["checksums"] == {name: scene.bands[name].checksum for name in ("blue", "s2_scl")}


def test_each_band_has_the_offset_of_its_product(tmp_path: Path, values: dict[str, np.ndarray]) -> None:
    offsets = {1: -1000, 2: -900, 3: 0, 7: -1000, 4: -1000, 9: -1000}
    scene = scene_at(write_folder(tmp_path, product_files(values, offsets=offsets)))
    assert {name: scene.bands[name].offset for name in ("blue", "green", "red", "nir")} == {
        "blue": -0.1, "green": -0.09, "red": 0, "nir": -0.1,
    }  # fmt: skip
    assert scene.offset_contradiction == "green, red: processing baseline 05.09 (-0.1)"
    old = scene_at(write_folder(tmp_path, product_files(values, offsets={})))
    assert old.bands["blue"].offset == 0  # none are listed before baseline 04.00
    shutil.rmtree(tmp_path / f"{PRODUCT}.SAFE")
    folder = write_folder(tmp_path, product_files(values, offsets={1: -1000}))
    assert problem(folder).endswith("SAFE: its BOA_ADD_OFFSET_VALUES_LIST lacks band B03")


def test_folders_of_products(tmp_path: Path, files: dict[str, bytes], values: dict[str, np.ndarray]) -> None:
    other = PRODUCT.replace("T08WNB", "T08WMB")
    write_folder(tmp_path / "archive" / "2023", files)
    write_zip(tmp_path / "archive" / f"{other}.SAFE.zip", product_files(values, product=other), product=other)
    (tmp_path / "archive" / "shapes.zip").write_bytes(b"no archive, and no product by its name")
    assert [item["id"] for item in read_safe_items(str(tmp_path / "archive"), HERE)] == [other, PRODUCT]
    assert is_safe_location(str(tmp_path / "archive"), HERE)
    (tmp_path / "planet").mkdir()
    assert not is_safe_location(str(tmp_path / "planet"), HERE)
    assert not is_safe_location(str(tmp_path / "item.json"), HERE)
    assert problem(f"{tmp_path}/none.SAFE") == f"{tmp_path}/none.SAFE: the folder does not exist"
    with pytest.raises(SettingsError, match=r"none\.zip: there is no such file"):
        read_safe_items(str(tmp_path / "none.zip"), HERE)


def test_the_same_product_twice(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_folder(tmp_path, files)
    write_zip(tmp_path / "a.SAFE.zip", files)
    assert problem(tmp_path).endswith(f"has the id of another product, {PRODUCT}; keep one of them")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (
            band_path("B03"),
            "band green is missing, IMG_DATA/R10m/*_B03_10m.jp2 was expected; the product is not complete",
        ),
        (
            band_path("SCL"),
            "the scene classification is missing, IMG_DATA/R20m/*_SCL_20m.jp2 was expected; "
            "the product is not complete",
        ),
        ("MTD_MSIL2A.xml", "MTD_MSIL2A.xml is missing; the product is not complete"),
    ],
)
def test_files_that_are_missing(tmp_path: Path, files: dict[str, bytes], missing: str, message: str) -> None:
    folder = write_folder(tmp_path, {path: content for path, content in files.items() if path != missing})
    assert problem(folder) == f"{folder}: {message}"


def test_a_product_without_the_metadata_of_its_tile(tmp_path: Path, files: dict[str, bytes]) -> None:
    folder = write_folder(tmp_path, files)
    (folder / f"GRANULE/{GRANULE}/MTD_TL.xml").unlink()
    assert problem(folder) == f"{folder} has 0 granules with MTD_TL.xml; one tile was expected"


def test_level_1c_is_refused(tmp_path: Path, files: dict[str, bytes], values: dict[str, np.ndarray]) -> None:
    name = PRODUCT.replace("MSIL2A", "MSIL1C")
    level1 = {path.replace("MTD_MSIL2A", "MTD_MSIL1C"): content for path, content in files.items()}
    folder = write_folder(tmp_path, level1, name)
    expected = "is Level-1C: reflectance at the surface, Level-2A, was expected"
    assert problem(folder) == f"{folder} {expected}"
    path = write_zip(tmp_path / "a.zip", level1, name)
    assert problem(path) == f"{path}!/{name}.SAFE {expected}"
    renamed = write_folder(tmp_path, product_files(values, level="Level-1C"))
    assert problem(renamed).startswith(f"{renamed}: its processing level is Level-1C; reflectance at the surface")


def test_archives_without_a_product(tmp_path: Path, files: dict[str, bytes]) -> None:
    inner = write_zip(tmp_path / f"{PRODUCT}.SAFE.zip", files)
    outer = write_zip(tmp_path / "outer.zip", {}, others=[(inner.name, inner.read_bytes())])
    assert problem(outer) == (
        f"{outer} contains another archive, {inner.name}, instead of a product; take that archive out of it"
    )
    empty = write_zip(tmp_path / "empty.zip", {}, others=[("readme.txt", b"")])
    assert problem(empty) == f"{empty} contains no SAFE product: MTD_MSIL2A.xml was expected in it"
    inner.write_bytes(inner.read_bytes()[:-100])
    assert problem(inner).startswith(f"{inner} is not a complete zip archive (File is not a zip file)")
    outside = write_zip(tmp_path / "outside.zip", files, others=[("../../etc/passwd", b"")])
    assert problem(outside) == (
        f"{outside} has a file with a path outside of the archive, '../../etc/passwd'; it is not read"
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_truncated_band_in_an_archive(tmp_path: Path, files: dict[str, bytes], compression: int) -> None:
    path = band_path("B04")
    damaged = {**files, path: files[path][:-5000]}
    scene = scene_at(write_zip(tmp_path / "a.SAFE.zip", damaged, compression=compression))
    with pytest.raises(RasterError) as caught:
        ANY_SCENES.fetch(scene, ["blue", "red"], OPTIONS).collect()
    message = str(caught.value)
    assert message.startswith(
        f"scene {PRODUCT}, band red, file {tmp_path}/a.SAFE.zip!/{PRODUCT}.SAFE/{path} is truncated"
    )
    assert "\n" not in message


def test_a_band_that_differs_from_the_manifest(tmp_path: Path, files: dict[str, bytes]) -> None:
    path = band_path("B04")
    content = bytearray(files[path])
    content[len(content) // 2] ^= 1
    scene = scene_at(write_zip(tmp_path / "a.SAFE.zip", {**files, path: bytes(content)}))
    with pytest.raises(RasterError, match=r"band red, file .* is damaged: its sha3_256 is"):
        ANY_SCENES.fetch(scene, ["red"], OPTIONS)


def test_metadata_of_others_read_no_file_of_this_machine(tmp_path: Path, files: dict[str, bytes]) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_text("<secret>hidden words</secret>")
    entity = f'<!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]>'.encode()
    xml = files["MTD_MSIL2A.xml"]
    declared = xml.replace(b"?>", b"?>" + entity, 1).replace(b"Sentinel-2A", b"&x;")
    folder = write_folder(tmp_path, {**files, "MTD_MSIL2A.xml": declared})
    assert problem(folder) == (
        f"{folder}: MTD_MSIL2A.xml declares a document type, which metadata of a SAFE product do not have"
    )
    (folder / "MTD_MSIL2A.xml").unlink()
    (folder / "MTD_MSIL2A.xml").symlink_to(secret)
    assert problem(folder) == f"{folder}: MTD_MSIL2A.xml is a link to a file outside of the product, which is not read"
    (folder / "MTD_MSIL2A.xml").unlink()
    (folder / "MTD_MSIL2A.xml").write_bytes(xml.replace(b"<IMAGE_FILE>GRANULE", b"<IMAGE_FILE>../../../etc"))
    scene = scene_at(folder)  # the paths in the metadata are not used
    assert scene.bands["blue"].href == str(folder / band_path("B02"))
    (folder / band_path("B02")).unlink()
    (folder / band_path("B02")).symlink_to(secret)
    assert "_B02_10m.jp2 is a link to a file outside of the product" in problem(folder)
    (folder / "MTD_MSIL2A.xml").write_bytes(b"<a>" * 10)
    (folder / band_path("B02")).unlink()
    (folder / band_path("B02")).write_bytes(files[band_path("B02")])
    assert "MTD_MSIL2A.xml is not XML (no element found" in problem(folder)


def real_products(shared: Path) -> list[Path]:
    return sorted((shared / "data/stactools_sentinel2/tests/data-files").glob("*.SAFE"))


def with_bands(product: Path, parent: Path) -> Path:
    """A real product, whose bands are small files with the names in its metadata."""
    folder = Path(shutil.copytree(product, parent / product.name.removeprefix("esa_")))
    (tile,) = folder.glob("GRANULE/*/MTD_TL.xml")
    text = (folder / "MTD_MSIL2A.xml").read_text()
    for line in text.splitlines():
        if "<IMAGE_FILE>" in line:
            path = folder / f"{line.partition('<IMAGE_FILE>')[2].partition('<')[0]}.jp2"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"pixels")
    assert tile.is_file()
    return folder


def test_real_metadata_become_the_expected_items(shared: Path, tmp_path: Path) -> None:
    products = real_products(shared)
    assert len(products) == 3
    for product in products:
        expected: dict[str, Any] = json.loads((product / "expected_output.json").read_text())
        (item,) = read_safe_items(str(with_bands(product, tmp_path)), HERE)
        properties, theirs = item["properties"], expected["properties"]
        for name in (
            "constellation", "grid:code", "platform", "s2:datastrip_id", "s2:datatake_id", "s2:generation_time",
            "s2:product_type", "s2:product_uri", "s2:tile_id", "sat:relative_orbit",
        ):  # fmt: skip
            assert properties[name] == theirs[name], name
        assert properties["processing:version"] == theirs["s2:processing_baseline"]
        assert properties["view:sun_azimuth"] == pytest.approx(theirs["view:sun_azimuth"])
        assert properties["view:sun_elevation"] == pytest.approx(theirs["view:sun_elevation"])
        assert properties["eo:cloud_cover"] == pytest.approx(theirs["eo:cloud_cover"], abs=1e-6)
        assert properties["eo:snow_cover"] == theirs["s2:snow_ice_percentage"]
        scene = ANY_SCENES.parse(item)
        assert f"{scene.datetime:%Y-%m-%dT%H:%M:%S.%fZ}" == theirs["datetime"]
        assert f"EPSG:{scene.epsg}" == theirs.get("proj:code", f"EPSG:{theirs.get('proj:epsg')}")
        for band, key in {"blue": "blue", "nir": "nir", "nir08": "nir08", "nir09": "nir09", "s2_scl": "scl"}.items():
            ours, asset = scene.bands[band], expected["assets"][key]
            assert ours.href.endswith(asset["href"].removeprefix("."))
            assert ours.grid is not None
            assert list(ours.grid.shape) == asset["proj:shape"]
            assert list(ours.grid.transform)[:6] == asset["proj:transform"]
            if band != "s2_scl":
                assert (ours.scale, ours.offset) == (
                    asset["raster:bands"][0]["scale"],
                    asset["raster:bands"][0]["offset"],
                )
        assert scene.offset_contradiction is None
        assert_same_footprint(item["geometry"], expected["geometry"])


def test_real_metadata_agree_with_cdse(shared: Path, tmp_path: Path) -> None:
    """CDSE's own program made the items in `derived_from_safe` from the same metadata."""
    for path in sorted((shared / "data/cdse_stac/derived_from_safe").glob("*.json")):
        cdse = ANY_SCENES.parse(json.loads(path.read_text()))
        (product,) = [each for each in real_products(shared) if path.stem in each.name]
        ours = scene_at(with_bands(product, tmp_path))
        for name in ("id", "datetime", "epsg", "tile", "processing_baseline", "sun_azimuth", "snow_cover"):
            assert getattr(ours, name) == getattr(cdse, name), name
        assert ours.sun_elevation == pytest.approx(cdse.sun_elevation)
        assert list(ours.bands) == list(cdse.bands)
        for name, band in ours.bands.items():
            other = cdse.bands[name]
            assert (band.scale, band.offset, band.grid, band.checksum) == (
                other.scale, other.offset, other.grid, other.checksum,
            )  # fmt: skip
        assert_same_footprint(ours.geometry, cdse.geometry)


def assert_same_footprint(ours: Any, theirs: Any) -> None:
    import shapely
    from shapely.geometry import shape

    first, second = shape(ours), shape(theirs)
    assert shapely.symmetric_difference(first, second).area < 1e-4 * second.area


@pytest.mark.slow
def test_on_s3_only_the_requested_bands_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, np.ndarray], files: dict[str, bytes]
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    try:
        location = server.location("archive")
        s3, root, client = S3Options(server.endpoint, "us-east-1"), location.url, server.client
        for path, content in files.items():
            client.put_object(Bucket=location.bucket, Key=f"archive/{PRODUCT}.SAFE/{path}", Body=content)
        for name, compression in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
            body = write_zip(tmp_path / f"{name}.zip", files, compression=compression).read_bytes()
            client.put_object(Bucket=location.bucket, Key=f"zips/{name}.zip", Body=body)
        zips = f"s3://{location.bucket}/zips"
        # A listing and three documents; a listing more to find that the folder has products. Of an archive its head and
        # index, and two ranges for each document. Then two requests for each band; of an archive two more.
        for href, of_item, of_bands in (
            (f"{root}/{PRODUCT}.SAFE", 4, 4),
            (f"{root}/", 6, 4),
            (f"{zips}/stored.zip", 8, 8),
            (f"{zips}/deflated.zip", 8, 8),
        ):
            server.requests()
            assert is_safe_location(href, s3)
            (item,) = ANY_SCENES.read(href, s3)
            assert len(server.requests()) <= of_item
            scene = ANY_SCENES.parse(item)
            raw = ANY_SCENES.fetch(scene, ["blue", "s2_scl"], SourceOptions(s3=s3)).collect()
            requests = server.requests()
            assert len(requests) <= of_bands
            assert not any(band in request for request in requests for band in ("_B03_", "_B04_", "_B08_"))
            assert np.array_equal(raw["blue"].values, values["B02"])
            assert np.array_equal(raw["s2_scl"].values, values["SCL"].repeat(2, 0).repeat(2, 1))
        assert problem(f"{zips}/none.zip", s3).endswith("none.zip: there is no such file")
    finally:
        server.stop()


def test_a_product_whose_bands_are_no_images(shared: Path, tmp_path: Path) -> None:
    scene = scene_at(with_bands(real_products(shared)[0], tmp_path))
    with pytest.raises(RasterError, match=r"cannot be opened as a raster|is damaged"):
        ANY_SCENES.fetch(scene, ["blue"], OPTIONS)


def test_nothing_at_a_location(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="contains no SAFE product"):
        read_safe_items(str(tmp_path), HERE)
