import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from darts_assets.errors import RasterError
from darts_assets.sources import fetch, open_raw, parse_item, read_item, scene_grid
from darts_assets.sources.rasters.multihash import Checksum

ALL = ("blue", "green", "red", "nir", "rededge071", "nir09", "s2_scl")
PREFIXES = {
    "md5": "d50110",
    "sha1": "1114",
    "sha224": "93201c",
    "sha256": "1220",
    "sha384": "2030",
    "sha512": "1340",
    "sha3_224": "171c",
    "sha3_256": "1620",
    "sha3_384": "1530",
    "sha3_512": "1440",
}


@pytest.mark.parametrize(("function", "prefix"), PREFIXES.items())
def test_multihashes(tmp_path: Path, function: str, prefix: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content" * 1000)
    digest = hashlib.new(function, path.read_bytes()).hexdigest()
    checksum = Checksum.parse((prefix + digest).upper())
    assert checksum == Checksum(function, digest)
    assert checksum.of(path) == digest


@pytest.mark.parametrize(
    "text",
    ["", "12", "xyz", "1220" + 31 * "ab", "1220" + 33 * "ab", "1210" + 16 * "ab", "1e20" + 32 * "ab", "80", "ff"],
)
def test_what_is_no_multihash_that_we_know(text: str) -> None:
    assert Checksum.parse(text) is None


def test_cdse_gives_sha3(shared: Path) -> None:
    (path,) = (shared / "data" / "cdse_stac").rglob("S2A_MSIL2A_20230625T234621_*_T01WCP_*.json")
    bands = parse_item(json.loads(path.read_text())).bands
    kinds = {Checksum.parse(str(band.checksum)).function for band in bands.values()}  # type: ignore[union-attr]
    assert kinds == {"sha3_256"}
    assert len(bands) == 13


def promise(made, asset: str, function: str = "sha256") -> str:
    digest = hashlib.new(function, made.path(asset).read_bytes()).hexdigest()
    made.item["assets"][asset]["file:checksum"] = PREFIXES[function] + digest
    return made.item["assets"][asset]["file:checksum"]


def test_local_files_are_verified(made) -> None:
    promised = {"blue": promise(made, "B02_10m", "md5"), "s2_scl": promise(made, "SCL_20m")}
    scene = parse_item(read_item(str(made.write_item())))
    assert fetch(scene, ALL).attrs["checksums"] == promised
    assert open_raw(scene, ["blue"]).attrs["checksums"] == {"blue": promised["blue"]}
    assert "checksums" not in fetch(scene, ["green"]).attrs


def test_other_contents_of_the_same_size(made) -> None:
    promise(made, "B03_10m")
    path = made.path("B03_10m")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    scene = parse_item(read_item(str(made.write_item())))
    expected = scene.bands["green"].checksum
    found = hashlib.sha256(content).hexdigest()
    for read in (fetch, open_raw):
        with pytest.raises(RasterError) as raised:
            read(scene, ALL)
        assert str(raised.value) == (
            f"scene {scene.id}, band green, file {path} is damaged: its sha256 is {found}, "
            f"the item promises {str(expected)[4:]}"
        )
    scene_grid(scene, ALL)  # needs no pixels


def test_bands_that_share_a_file_share_its_checksum(made, raster_writer) -> None:
    values = [made.values[name] for name in ("blue", "green", "red", "nir")]
    raster_writer(made.folder / "all.tif", np.stack(values), 10)
    multihash = "1220" + hashlib.sha256((made.folder / "all.tif").read_bytes()).hexdigest()
    bands = [{"eo:common_name": name, "scale": 1e-4, "offset": 0} for name in ("blue", "green", "red", "nir")]
    asset = {"href": "all.tif", "proj:code": "EPSG:32608", "file:checksum": multihash, "bands": bands}
    made.item["assets"] = {"data": asset}
    scene = parse_item(read_item(str(made.write_item())))
    assert fetch(scene, ["nir", "red"]).attrs["checksums"] == {"red": multihash, "nir": multihash}


def test_unknown_kinds_are_told(made, caplog) -> None:
    made.item["assets"]["B02_10m"]["file:checksum"] = "1e20" + 32 * "ab"
    scene = parse_item(read_item(str(made.write_item())))
    with caplog.at_level(logging.WARNING):
        assert "checksums" not in fetch(scene, ["blue"]).attrs
    (record,) = caplog.records
    assert "is of no kind that is known, and was not verified" in record.message
    assert "band blue" in record.message
