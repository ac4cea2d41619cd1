"""Tables of features on a path and on S3: read as written, replaced in one step, missing ones are errors."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from geopandas.testing import assert_geodataframe_equal

from darts_assets.errors import NotReadableError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place, Retention
from darts_assets.stores.vectors import read_table, read_vectors, write_vectors
from tests.servers.s3.moto_server import CREDENTIALS, S3Server


@pytest.fixture(params=["path", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param == "path":
        yield Place(StoreLocation(str(tmp_path / "store")).child("vectors", "scene"))
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield Place(server.location("store").child("vectors", "scene"))
    server.stop()


def table(count: int) -> gpd.GeoDataFrame:
    squares = [shapely.box(10 * x, 0, 10 * x + 10, 10) for x in range(count)]
    return gpd.GeoDataFrame({"Region_ID": range(1, count + 1)}, geometry=squares, crs="EPSG:32608")


def test_tables_are_read_as_written_and_replaced(place: Place) -> None:
    for count in (3, 0, 2):
        write_vectors(place, {"segments": table(count), "extent": table(1)}, {"count": count})
        tables = read_vectors(place)
        assert_geodataframe_equal(tables["segments"], table(count), check_dtype=count > 0)
        assert_geodataframe_equal(tables["extent"], table(1))
        assert place.require().metadata == {"count": count}


def test_a_missing_or_replaced_table_is_an_error(place: Place) -> None:
    write_vectors(place, {"segments": table(2)}, {})
    before = place.require()
    with pytest.raises(NotReadableError, match=r"extent\.parquet does not exist"):
        read_table(place, before, "extent")
    write_vectors(place, {"segments": table(3)}, {})
    assert read_table(place, before, "segments").equals(read_vectors(place, before)["segments"])
    for rows in (4, 5):
        write_vectors(Place(place.location, Retention(timedelta(0))), {"segments": table(rows)}, {})
    with pytest.raises(NotReadableError, match="replaced during reading"):
        read_table(place, before, "segments")
