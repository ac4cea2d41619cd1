"""Planet images that cannot be used: each is named in one sentence, and the others go on."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from darts_assets.errors import SceneError
from darts_assets.sources import S3Options
from darts_assets.sources.planet.deliveries import read_manifest
from tests.sample_data.planet_deliveries import EARLIER, FOUR, HARVEY, SCENE, find, write_image, write_manifest


def damage_nothing(folder: Path) -> None:
    pass


def drop_mask(folder: Path) -> None:
    next(folder.glob("*udm2*")).unlink()


def drop_reflectance(folder: Path) -> None:
    next(folder.glob("*_SR.tif")).unlink()


def add_second(folder: Path) -> None:
    file = next(folder.glob("*_SR.tif"))
    shutil.copyfile(file, file.with_name(file.name.replace("_SR", "_SR_clip")))


def truncate(folder: Path) -> None:
    file = next(folder.glob("*_SR.tif"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def truncate_to_header(folder: Path) -> None:
    next(folder.glob("*_SR.tif")).write_bytes(b"II*\0\x08\0\0\0")


def one_band_mask(folder: Path) -> None:
    file = next(folder.glob("*udm2*"))
    with rasterio.open(file) as source:
        profile = {**source.profile, "count": 1}
    with rasterio.open(file, "w", **profile) as target:
        target.write(np.zeros((1, *target.shape), "uint8"))


def shift_mask(folder: Path) -> None:
    with rasterio.open(next(folder.glob("*udm2*")), "r+") as file:
        file.transform = file.transform @ rasterio.Affine.translation(20, 0)


def swap_id(folder: Path) -> None:
    file = next(folder.glob("*_SR.tif"))
    file.rename(file.with_name(file.name.replace(SCENE, EARLIER)))


def break_metadata(folder: Path) -> None:
    next(folder.glob("*_metadata.json")).write_text('{"properties": ')


def nest_metadata(folder: Path) -> None:
    next(folder.glob("*_metadata.json")).write_text('{"properties": ' + "[" * 100_000)


def half_copied(folder: Path) -> None:
    write_manifest(folder)
    file = next(folder.glob("*udm2*"))
    file.write_bytes(file.read_bytes()[:-100])


def copied_but_one(folder: Path) -> None:
    write_manifest(folder)
    next(folder.glob("*_metadata.json")).unlink()


def top_of_atmosphere_without_xml(folder: Path) -> None:
    file = next(folder.glob("*_SR.tif"))
    file.rename(file.with_name(file.name.replace("_SR", "")))


WRONG: dict[str, tuple[dict[str, Any], Callable[[Path], None], str]] = {
    "no mask": ({}, drop_mask, r"has no usable data mask: \*_udm2\.tif or \*_udm2_clip\.tif was expected; its files"),
    "no reflectance": ({}, drop_reflectance, r"has no reflectance: \*_SR\.tif, .*its files: .*udm2\.tif"),
    "two files": ({}, add_second, r"has 2 files of surface reflectance \(.*_SR\.tif, .*_SR_clip\.tif\)"),
    "five bands": ({"bands": (*FOUR, "rededge")}, damage_nothing, r"_SR\.tif has 5 band\(s\); 4 were expected \(blue"),
    "three bands": ({"bands": FOUR[:3]}, damage_nothing, r"has 3 band\(s\)"),
    "no CRS": ({"crs": None}, damage_nothing, r"_SR\.tif has no CRS; a UTM zone was expected"),
    "polar CRS": ({"crs": "EPSG:3413"}, damage_nothing, "its CRS is EPSG:3413; a UTM zone was expected"),
    "truncated": ({}, truncate, r"_SR\.tif is truncated: it has \d+ bytes, a block ends at byte \d+"),
    "header only": ({}, truncate_to_header, r"_SR\.tif.* cannot be opened as a raster"),
    "old mask": ({}, one_band_mask, r"udm2\.tif has 1 band\(s\), band 8 was expected"),
    "mask elsewhere": ({}, shift_mask, r"planet_udm, file .*udm2\.tif covers .*, the other bands "),
    "other image": ({}, swap_id, f"has a file of another image: {EARLIER}_3B_AnalyticMS_SR.tif"),
    "metadata": ({}, break_metadata, "is not the metadata of a Planet image"),
    "deep metadata": ({}, nest_metadata, "is not the metadata of a Planet image"),
    "half a file": (
        {},
        half_copied,
        r"according to its manifest\.json: .*udm2\.tif has \d+ of \d+ bytes$",
    ),
    "a file missing": (
        {},
        copied_but_one,
        r"according to its manifest\.json: .*_metadata\.json is missing$",
    ),
    "no coefficients": ({}, top_of_atmosphere_without_xml, r"\(.*AnalyticMS\.tif\) without the \*_metadata\.xml"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_in_one_sentence_and_others_go_on(tmp_path: Path, what: str) -> None:
    arguments, damage, message = WRONG[what]
    damage(write_image(tmp_path, SCENE, **arguments))
    write_image(tmp_path, EARLIER)
    items, (problem,) = find(tmp_path)
    assert list(items) == [EARLIER]
    assert SCENE in problem
    assert re.search(message, problem), problem


def test_top_of_atmosphere_whose_coefficients_are_not_all_there(shared: Path, tmp_path: Path) -> None:
    real = next((shared / HARVEY).rglob("20170831_172754_101c"))
    folder = Path(shutil.copytree(real, tmp_path / real.name))
    file = next(folder.glob("*_metadata.xml"))
    file.chmod(0o644)
    file.write_text(file.read_text().replace("3.22221688359e-05", "0"))
    items, (problem,) = find(tmp_path)
    assert items == {}
    assert "no reflectanceCoefficient of band 4" in problem


def test_documents_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "manifest.json").write_text('{"files": [' + " " * 2000 + "]}")
    monkeypatch.setattr("darts_assets.remote.byte_reader.read_bytes.__defaults__", (None, 1000))
    with pytest.raises(SceneError, match=r"manifest\.json has more than 1000 bytes"):
        read_manifest(str(tmp_path / "manifest.json"), S3Options())
