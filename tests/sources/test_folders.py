"""Listings of folders on S3 whose names contain characters of URLs."""

from pathlib import Path

import boto3
import pytest

from darts_assets.errors import SettingsError
from darts_assets.remote.s3_auth import S3Options
from darts_assets.sources.folders import list_files
from tests.servers.s3.moto_server import CREDENTIALS, S3Server


def test_a_prefix_is_taken_character_by_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    try:
        bucket = server.location("root").bucket
        client = boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1")
        for key in ("in/a.tif", "in#1/b.tif", "in?x/c.tif"):
            client.put_object(Bucket=bucket, Key=key, Body=b"II*")
        s3 = S3Options(server.endpoint, "us-east-1")
        for folder, name in (("in", "a.tif"), ("in#1", "b.tif"), ("in?x/", "c.tif")):
            (file,) = list_files(f"s3://{bucket}/{folder}", s3, [])
            assert file.href == f"s3://{bucket}/{folder.rstrip('/')}/{name}"
        with pytest.raises(SettingsError, match=r"in//1: '//' in a prefix is not supported"):
            list(list_files(f"s3://{bucket}/in//1", s3, []))
    finally:
        server.stop()
