"""GDAL paths, options and error messages."""

from rasterio.errors import RasterioIOError

from darts_assets.remote.gdal_options import gdal_message, gdal_path, s3_options
from darts_assets.remote.s3_auth import S3Options


def test_paths_and_options_of_s3():
    assert gdal_path("s3://b/k.jp2") == "/vsis3/b/k.jp2"
    assert gdal_path("https://h/k.tif?x=1") == "/vsicurl/https://h/k.tif?x=1"
    assert gdal_path("file:///a%20b/k.tif") == "/a b/k.tif"
    assert gdal_path("/a/k.tif") == "/a/k.tif"
    options = s3_options(S3Options("https://eodata.dataspace.copernicus.eu", anonymous=True))
    assert options["AWS_S3_ENDPOINT"] == "eodata.dataspace.copernicus.eu"
    assert (options["AWS_HTTPS"], options["AWS_VIRTUAL_HOSTING"], options["AWS_NO_SIGN_REQUEST"]) == (
        "YES",
        "FALSE",
        "YES",
    )
    assert "AWS_REGION" not in options
    assert "AWS_S3_ENDPOINT" not in s3_options(S3Options())


def test_messages_of_causes_without_signatures() -> None:
    error = RasterioIOError("Read failed. See previous exception for details.")
    error.__cause__ = RasterioIOError("/vsicurl/https://h/a.tif?sig=S failed: HTTP 503")
    assert gdal_message(error) == (
        "Read failed. See previous exception for details.; /vsicurl/https://h/a.tif?*** failed: HTTP 503"
    )
