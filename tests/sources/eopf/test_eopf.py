"""EOPF products of Zarr formats 2 and 3, with and without shards, on a disk, on a web server and on S3."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.errors import RasterError, SceneError
from darts_assets.scene import Scene
from darts_assets.sources import ANY_SCENES, S3Options, SourceOptions
from darts_assets.sources.eopf.zarr_arrays import split_array
from tests.sample_data.eopf_stores import (
    NAMES,
    PRODUCT,
    RESOLUTIONS,
    Format,
    band_item,
    group_item,
    group_of,
    pixels,
    write_store,
)
from tests.servers.network.file_server import serve_folder
from tests.servers.s3.eodata import EPSG, LEFT, TOP
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

HERE = SourceOptions()
FORMATS: tuple[Format, ...] = ("2", "3", "sharded")


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    return pixels()


@pytest.fixture(scope="module", params=FORMATS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, values: Any) -> Path:
    return write_store(tmp_path_factory.mktemp("eopf"), values, request.param)


def scene_at(href: object, s3: S3Options = HERE.s3) -> Scene:
    (item,) = ANY_SCENES.read(str(href), s3)
    return ANY_SCENES.parse(json.loads(json.dumps(item)))


def assert_pixels(scene: Scene, values: dict[str, np.ndarray], options: SourceOptions = HERE) -> None:
    raw = ANY_SCENES.fetch(scene, list(NAMES), options).collect()
    for name, array in NAMES.items():
        times = RESOLUTIONS[array] // 10
        assert np.array_equal(raw[name].values, values[array].repeat(times, 0).repeat(times, 1)), name
    assert raw.odc.geobox == GeoBox((240, 240), Affine(10, 0, LEFT, 0, -10, TOP), f"EPSG:{EPSG}")


def test_a_store_on_a_disk(store: Path, values: dict[str, np.ndarray]) -> None:
    scene = scene_at(store)
    assert (scene.id, scene.source, scene.tile, scene.epsg) == (PRODUCT, "eopf", "08WNB", EPSG)
    assert (scene.sun_azimuth, scene.sun_elevation, scene.cloud_cover) == (170.5, 44.25, 3.5)
    assert scene.offset_evidence == "-0.1, by processing baseline 05.09 (id)"
    assert_pixels(scene, values)
    tile = ANY_SCENES.calibrate(ANY_SCENES.open_raw(scene, ["blue", "green", "red", "nir", "s2_scl"], HERE), {})
    np.testing.assert_allclose(tile["red"].values, (values["b04"] * 1e-4 - 0.1).astype(np.float32), atol=1e-6)
    window = tile["red"].isel(y=slice(31, 77), x=slice(5, 9))
    np.testing.assert_allclose(window.values, values["b04"][31:77, 5:9] * 1e-4 - 0.1, atol=1e-6)


def test_items_of_the_service(store: Path, values: dict[str, np.ndarray]) -> None:
    for item in (band_item(str(store)), group_item(str(store))):
        if "reflectance" in item["assets"]:
            item["assets"]["reflectance"]["bands"] = []
        scene = ANY_SCENES.parse(item)
        again = ANY_SCENES.parse(json.loads(json.dumps(scene.item)))  # as registered
        assert again == scene
        assert (scene.source, scene.sun_elevation) == ("eopf", 44.25)
        assert {name: scene.bands[name].href for name in NAMES} == {
            name: f"{store}/{group_of(array)}/{array}" for name, array in NAMES.items()
        }
        assert_pixels(scene, values)


def test_over_http_only_the_chunks_under_a_window_are_read(store: Path, values: dict[str, np.ndarray]) -> None:
    requests: list[str] = []
    with serve_folder(store.parent, requests) as url:
        scene = scene_at(f"{url}/{store.name}")
        raw = ANY_SCENES.open_raw(scene, ["blue", "s2_scl"], HERE)
        requests.clear()
        part = raw["blue"].isel(y=slice(0, 100))
        assert np.array_equal(part.values, values["b02"][:100])
        assert np.array_equal(raw["s2_scl"].isel(y=slice(0, 2)).values, values["scl"][:1].repeat(2, 0).repeat(2, 1))
        assert all(group_of("b02") in path or group_of("scl") in path for path in requests)
        assert 2 <= len(requests) <= 12  # two chunks of each band, or the index and the chunks of a shard
        assert_pixels(scene, values)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        server = S3Server(tmp_path)
        stack.callback(server.stop)
        yield server


@pytest.mark.slow
def test_on_s3(store: Path, values: dict[str, np.ndarray], server: S3Server) -> None:
    location = server.location("products")
    for file in store.rglob("*"):
        if file.is_file():
            key = f"products/{file.relative_to(store.parent)}"
            server.client.put_object(Bucket=location.bucket, Key=key, Body=file.read_bytes())
    s3 = S3Options(server.endpoint, "us-east-1")
    scene = scene_at(f"{location.url}/{store.name}", s3)
    server.requests()
    assert_pixels(scene, values, SourceOptions(s3=s3))
    chunks = [line for line in server.requests() if "/c/" in line or line.split()[1].rpartition("/")[2][0].isdigit()]
    assert len(chunks) <= 60


def test_what_is_refused(tmp_path: Path, values: dict[str, np.ndarray]) -> None:
    path = write_store(tmp_path, values, "3")
    scene = scene_at(path)
    for array, message in (("b03", "there is no such array"), ("x", "there is no such array")):
        moved = path / group_of("b03") / array
        hidden = moved.with_name(f"{array}-moved")
        moved.rename(hidden)
        with pytest.raises(RasterError, match=message):
            ANY_SCENES.open_raw(scene, ["green"], HERE)
        hidden.rename(moved)
    shutil.rmtree(path / group_of("scl") / "scl")
    with pytest.raises(SceneError, match=r"the scene classification is missing, conditions/mask/.*/scl was expected"):
        scene_at(path)
    with pytest.raises(SceneError, match=r"none\.zarr is not a Zarr group"):
        scene_at(tmp_path / "none.zarr")
    level1 = tmp_path / PRODUCT.replace("MSIL2A", "MSIL1C")
    shutil.copytree(write_store(tmp_path / "other", values), level1.with_suffix(".zarr"))
    with pytest.raises(SceneError, match="is Level-1C"):
        scene_at(level1.with_suffix(".zarr"))


def test_an_offset_that_the_baseline_contradicts(tmp_path: Path, values: dict[str, np.ndarray]) -> None:
    scene = scene_at(write_store(tmp_path, values, offset=0.0))
    assert scene.offset_contradiction == "the offset in the item (0)"
    with pytest.raises(RasterError, match=r"has the add_offset 0\.0; -0\.1 was expected"):
        ANY_SCENES.open_raw(scene, ["blue"], HERE)


def test_a_damaged_chunk(tmp_path: Path, values: dict[str, np.ndarray]) -> None:
    path = write_store(tmp_path, values)
    scene = scene_at(path)
    (path / group_of("b04") / "b04" / "0.0").write_bytes(b"damaged")
    with pytest.raises(RasterError, match=r"band red, file .*b04 cannot be decoded"):
        ANY_SCENES.fetch(scene, ["red"], HERE).collect()


def test_a_store_must_not_choose_code(tmp_path: Path, values: dict[str, np.ndarray]) -> None:
    path = write_store(tmp_path, values)
    scene = scene_at(path)
    metadata = path / group_of("b04") / "b04" / ".zarray"
    fields = json.loads(metadata.read_text())
    evidence = tmp_path / "executed"

    class Harm:
        def __reduce__(self) -> Any:
            return Path.touch, (evidence,)

    fields["filters"], fields["compressor"] = [{"id": "pickle", "protocol": 4}], None
    metadata.write_text(json.dumps(fields))
    (path / group_of("b04") / "b04" / "0.0").write_bytes(bytes(numcodecs.Pickle().encode(Harm())))
    with pytest.raises(RasterError, match=r"is not a Zarr array: .*pickle|has the codec pickle, which is not read"):
        ANY_SCENES.fetch(scene, ["red"], HERE).collect()
    assert not evidence.exists()
    fields["filters"] = [{"id": "fixedscaleoffset", "offset": 0, "scale": 1, "dtype": "<u2"}]
    metadata.write_text(json.dumps(fields))
    with pytest.raises(RasterError, match="has the codec fixedscaleoffset, which is not read"):
        ANY_SCENES.open_raw(scene, ["red"], HERE)


def test_hrefs_of_arrays() -> None:
    assert split_array("https://host/a:b/X.zarr/measurements/b02") == ("https://host/a:b/X.zarr", "measurements/b02")
    assert split_array("/a/X.zarr") is None
    assert split_array("/a/X.zarr/") is None
    assert split_array("/a/X.tif") is None
