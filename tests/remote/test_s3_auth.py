"""Keys to S3: where they are found, that GDAL has the same ones, and what is said when they are refused."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from darts_assets.errors import SettingsError
from darts_assets.scene import Scene
from darts_assets.sources import S3Options, check_files, fetch, parse_item, read_item
from tests.servers.s3.eodata import Eodata, raster, scene_item
from tests.servers.s3.moto_server import S3Server

BLUE = np.arange(240 * 240, dtype=np.uint16).reshape(240, 240) + 1
BANDS = ("blue", "green")
"""A JPEG 2000 file, which we fetch, and a GeoTIFF, which GDAL reads."""


@dataclass
class Guarded:
    """A service that lets nobody in without good keys."""

    server: S3Server
    bucket: Eodata
    scene: Scene
    key: str
    secret: str

    def s3(self, **options: object) -> S3Options:
        return S3Options(self.server.endpoint, "us-east-1", **options)  # type: ignore[arg-type]

    def read(self, **options: object) -> None:
        tile = fetch(self.scene, BANDS, s3=self.s3(**options)).collect()
        assert np.array_equal(tile["blue"].values, BLUE)
        assert np.array_equal(tile["green"].values, BLUE)

    def credentials_file(self, path: Path, profile: str = "default") -> Path:
        path.write_text(f"[{profile}]\naws_access_key_id = {self.key}\naws_secret_access_key = {self.secret}\n")
        return path

    def refusal(self, **options: object) -> str:
        """What everyone who reads is told; the same for each way of reading, and never with a key in it."""
        said = set()
        for read in (check_files, fetch):
            for bands in (("blue",), ("green",)):
                with pytest.raises(SettingsError) as raised:
                    read(self.scene, bands, s3=self.s3(**options))
                said.add(str(raised.value).replace(self.scene.bands[bands[0]].href, "HREF"))
        (words,) = said
        return words


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    bucket = Eodata(server.client)
    blue = bucket.asset("B02_10m", raster(BLUE, 10, "JP2OpenJPEG"))
    others = {f"B{n}_10m": bucket.asset(f"B{n}_10m", raster(BLUE, 10, "COG"), "tif") for n in ("03", "04", "08")}
    key, secret = server.require_keys(bucket.bucket, "Sentinel-2")
    scene = parse_item(scene_item({"B02_10m": blue, **others}))
    yield Guarded(server, bucket, scene, key, secret)
    server.stop()


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none either"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def set_keys(monkeypatch: pytest.MonkeyPatch, key: str, secret: str) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)


def test_from_the_environment(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_keys(monkeypatch, guarded.key, guarded.secret)
    with caplog.at_level(logging.DEBUG):
        guarded.read()
    assert "Entered env context" in caplog.text  # GDAL was given them
    assert guarded.secret not in caplog.text
    assert guarded.key not in caplog.text


def test_from_a_mounted_credentials_file(guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(guarded.credentials_file(tmp_path / "credentials")))
    guarded.read()


def test_from_a_profile(guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = guarded.credentials_file(tmp_path / "credentials", "cdse")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "cdse")
    guarded.read()
    monkeypatch.delenv("AWS_PROFILE")
    # The environment's keys are the store's: a profile that is named comes first, in our requests and in GDAL's.
    set_keys(monkeypatch, "AKIASTORE", "STORESECRET")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "STORETOKEN")
    guarded.read(profile="cdse")


def test_keys_may_change(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, guarded.key, "wrong")
    with pytest.raises(SettingsError):
        guarded.read()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", guarded.secret)
    guarded.read()


@pytest.mark.parametrize(
    ("key", "code"), [("the right one", "SignatureDoesNotMatch"), ("AKIAWRONG", "InvalidAccessKeyId")]
)
def test_wrong_keys(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, key: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    set_keys(monkeypatch, guarded.key if key == "the right one" else key, "WRONGSECRET")
    with caplog.at_level(logging.DEBUG):
        words = guarded.refusal()
    service = guarded.server.endpoint.removeprefix("http://")
    assert words == f"{service}, HREF: the keys in AWS_ACCESS_KEY_ID are refused (HTTP 403 {code})"
    told = caplog.text + words
    assert "WRONGSECRET" not in told
    assert key not in told
    assert guarded.key not in told
    assert not [record for record in caplog.records if "attempt 2" in record.message]  # nobody tries again


def test_wrong_keys_of_a_profile(guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = guarded.credentials_file(tmp_path / "credentials", "cdse")
    file.write_text(file.read_text().replace(guarded.secret, "WRONGSECRET"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert "HREF: the keys of the AWS profile cdse are refused (HTTP 403 Sig" in guarded.refusal(profile="cdse")


def test_no_keys(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    words = guarded.refusal()
    assert "there are no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in words
    assert "HREF: it cannot be read without keys (HTTP 403)" in guarded.refusal(anonymous=True)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "half")
    assert "keys for S3: Partial credentials found in env" in guarded.refusal()
    assert "keys for S3: The config profile (none) could not be found" in guarded.refusal(profile="none")


def test_keys_that_do_not_open_everything(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    set_keys(monkeypatch, guarded.key, guarded.secret)
    href = guarded.bucket.bucket + "/Sentinel-1/item.json"
    with pytest.raises(
        SettingsError, match=r"the keys in AWS_ACCESS_KEY_ID have no access, or it does not exist \(HTTP"
    ):
        read_item(f"s3://{href}", guarded.s3())


def test_options_that_make_no_sense() -> None:
    with pytest.raises(
        SettingsError, match=r"'eodata\.example' is not the URL of an S3 service; expected https://HOST"
    ):
        S3Options("eodata.example")
    with pytest.raises(SettingsError, match="must be at least 1, not 0"):
        S3Options(connections=0)
