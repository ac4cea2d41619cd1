"""Settings from the environment."""

from pathlib import Path

import pytest

from darts_assets.errors import StoreError
from darts_assets.settings import Settings


def test_blanks_and_empty_values_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "STORE": " S3://bucket/prefix\n",
        "STORE_ENDPOINT": "http://127.0.0.1:9000\n",
        "STORE_REGION": "",
        "RAW_STORE": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"DARTS_{name}", value)
    current = Settings()
    assert current.root.url == "s3://bucket/prefix"
    assert current.root.endpoint == "http://127.0.0.1:9000"
    assert current.root.region is None
    assert current.raw_store


def test_no_auxiliary_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "none", " none "):
        monkeypatch.setenv("DARTS_AUXILIARY", value)
        assert Settings().auxiliary == ()


def test_a_mistyped_url_becomes_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARTS_STORE", "s3:/bucket/prefix")
    with pytest.raises(StoreError, match=r"s3:/bucket/prefix is not supported"):
        _ = Settings().root
    monkeypatch.setenv("DARTS_STORE", "data")
    assert Settings().root.url == str(tmp_path / "data")
