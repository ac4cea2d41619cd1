"""Tiles from the provider's published indexes: the real one of release 7, and the layout of v4.1's."""

import itertools
import logging
import zipfile
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from odc.geo.geobox import GeoBox

from darts_assets.cubes import ArcticDemTiles, arcticdem_spec
from darts_assets.errors import CubeError, RasterError

pytestmark = pytest.mark.slow

BUCKET = "s3://pgc-opendata-dems/arcticdem/mosaics/v4.1"


@pytest.fixture(scope="module")
def release_7(shared: Path) -> Path:
    return shared / "data/oggm/dem_sources/ArcticDEM/ArcticDEM_Tile_Index_Rel7_by_tile.shp"


def area_of(geobox: GeoBox) -> shapely.Polygon:
    return shapely.box(*geobox.boundingbox.bbox)


def intersecting(frame: gpd.GeoDataFrame, geobox: GeoBox) -> gpd.GeoDataFrame:
    area = area_of(geobox)
    return frame[frame.intersects(area) & ~frame.touches(area)]


@pytest.mark.parametrize("resolution", [10, 32])
def test_super_tiles_of_the_real_index(release_7: Path, resolution: int) -> None:
    frame = gpd.read_file(release_7)
    grid = arcticdem_spec(resolution).grid
    tiles = ArcticDemTiles(str(release_7))
    rng = np.random.default_rng(2)
    found = 0
    for row, col in rng.integers(0, grid.shape, (150, 2)):
        geobox = grid.chunk_geobox(int(row), int(col))
        rows = intersecting(frame, geobox)
        under = tiles.under(geobox)
        assert [tile.id for tile in under] == sorted(f"{name}_{resolution}m_v4.1" for name in rows.tile)
        found += len(under)
        for tile in under:
            name = tile.id[:5]
            assert tile.dem == f"{BUCKET}/{resolution}m/{name}/{name}_{resolution}m_v4.1_dem.tif"
            assert tuple(tile.bounds) == tuple(rows.set_index("tile").geometry[name].bounds)
    assert found > 50


def test_fine_tiles_of_the_real_index(release_7: Path) -> None:
    frame = gpd.read_file(release_7)
    tiles = ArcticDemTiles(str(release_7))
    # Around the Lena delta, at the mosaic's western and southern ends, and over a super tile whose ground is torn.
    west, south = (frame.geometry[frame.bounds[edge].idxmin()].centroid for edge in ("minx", "miny"))
    torn = frame[frame.geom_type == "MultiPolygon"].geometry.iloc[0].centroid
    for x, y in ((170_000, 1_940_000), (west.x, west.y), (south.x, south.y), (torn.x, torn.y)):
        geobox = GeoBox.from_bbox((x - 40_000, y - 40_000, x + 40_000, y + 40_000), "EPSG:3413", resolution=2)
        expected = set()
        for name, footprint in zip(frame.tile, frame.geometry, strict=True):
            row, col = (int(part) for part in name.split("_"))
            for i, j in itertools.product((1, 2), (1, 2)):
                left = -4_100_000 + col * 100_000 + (j - 1) * 50_000
                bottom = -4_100_000 + row * 100_000 + (i - 1) * 50_000
                quarter = shapely.box(left, bottom, left + 50_000, bottom + 50_000)
                if (quarter & footprint & area_of(geobox)).area > 0:
                    expected.add(f"{name}_{i}_{j}_2m_v4.1")
        assert {tile.id for tile in tiles.under(geobox)} == expected
        assert expected
    # The one that the index itself names: 07_40_2_2_2m_v3.0 is all that there is of 07_40.
    geobox = GeoBox.from_bbox((-90_000, -3_390_000, 0, -3_310_000), "EPSG:3413", resolution=2)
    (tile,) = (tile for tile in tiles.under(geobox) if tile.id.startswith("07_40"))
    assert tile.datamask == f"{BUCKET}/2m/07_40/07_40_2_2_2m_v4.1_datamask.tif"
    assert tuple(tile.bounds) == (-50_000, -3_350_000, 0, -3_300_000)


def test_an_older_index_is_not_taken_silently(release_7: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiles = ArcticDemTiles(str(release_7))
    with caplog.at_level(logging.WARNING):
        tiles.under(arcticdem_spec(10).grid.chunk_geobox(200, 420))
        tiles.under(arcticdem_spec(32).grid.chunk_geobox(60, 130))
    assert [record.getMessage() for record in caplog.records] == [
        f"{release_7} is not an index of v4.1: it lacks areas that were mapped later"
    ]


def layers() -> dict[int, gpd.GeoDataFrame]:
    """The index of v4.1 around 60_42, as it is published: 100 m larger than the squares, a layer a resolution."""
    made = {}
    for resolution, parts in ((2, list(itertools.product((1, 2), (1, 2)))), (10, [None]), (32, [None])):
        rows: list[dict[str, Any]] = []
        for row, col, part in itertools.product((59, 60), (41, 42, 43), parts):
            side, (i, j) = (50_000, part) if part else (100_000, (1, 1))
            left = -4_100_000 + col * 100_000 + (j - 1) * side
            bottom = -4_100_000 + row * 100_000 + (i - 1) * side
            supertile = f"{row}_{col}"
            tile = f"{supertile}_{i}_{j}" if part else supertile
            dem_id = f"{tile}_{resolution}m_v4.1"
            rows.append({
                "dem_id": dem_id, "tile": tile, "supertile": supertile, "gsd": float(resolution),
                "fileurl": f"https://data.pgc.umn.edu/elev/dem/setsm/ArcticDEM/mosaic/v4.1/{resolution}m/{dem_id}.tar.gz",
                "s3url": "https://polargeospatialcenter.github.io/stac-browser/#/external/pgc-opendata-dems.s3.us-west-2."
                         f"amazonaws.com/arcticdem/mosaics/v4.1/{resolution}m/{supertile}/{dem_id}.json",
                "geometry": shapely.box(left - 100, bottom - 100, left + side + 100, bottom + side + 100),
            })  # fmt: skip
        made[resolution] = gpd.GeoDataFrame(rows, crs="EPSG:3413")
    return made


def write_index(folder: Path, form: str) -> Path:
    """The index in one of the forms in which the provider offers it."""
    stem = "ArcticDEM_Mosaic_Index_v4_1"
    path = folder / f"{stem}_{form.replace(' ', '_').replace('.', '_')}{Path(form).suffix}"
    for resolution, frame in layers().items():
        name = f"{stem}_{resolution}m"
        if form.endswith(".gpkg"):
            frame.to_file(path, layer=name, engine="pyogrio")
        elif form == "shapefiles.zip":
            frame.to_file(folder / f"{name}.shp", engine="pyogrio")
        elif form == "parquet.zip":
            frame.to_parquet(folder / f"{name}.parquet")
        elif resolution == 2:  # one file knows one resolution
            path = folder / f"{name}{Path(form).suffix}"
            frame.to_parquet(path) if form == "geo.parquet" else frame.to_file(path, engine="pyogrio")
    if form.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.glob(f"{stem}_*m.*")):
                archive.write(file, f"{stem}/{file.name}")
                file.unlink()
    return path


@pytest.mark.parametrize("form", ["geopackage.gpkg", "shapefiles.zip", "parquet.zip", "shapefile.shp", "geo.parquet"])
def test_every_form_of_the_index(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    tiles = ArcticDemTiles(str(write_index(tmp_path, form)))
    for resolution, frame in layers().items():
        for x, y in ((100_050, 1_900_050), (150_000, 1_950_000), (99_000, 1_890_000)):
            side = 1024 * resolution / 2
            geobox = GeoBox.from_bbox((x - side, y - side, x + side, y + side), "EPSG:3413", resolution=resolution)
            under = tiles.under(geobox)
            assert [tile.id for tile in under] == sorted(intersecting(frame, geobox).dem_id)
            for tile in under:
                assert tile.dem == f"{BUCKET}/{resolution}m/{tile.id[:5]}/{tile.id}_dem.tif"
    assert caplog.records == []


@pytest.fixture
def own_files(mosaic, make_tile_box, make_surface) -> tuple[Path, GeoBox]:
    """The 10 m files of two of the index's tiles, below a folder laid out as the bucket is."""
    grid = arcticdem_spec(10).grid
    geobox = grid.chunk_geobox((4_100_000 - 1_950_000) // 10_240, (4_100_000 + 200_000) // 10_240)
    for n, (name, left) in enumerate((("60_42", 99_900), ("60_43", 199_900))):
        box = make_tile_box(left, 2_000_100, 10_020, 10_020)
        rows, cols = slice(4000, 7000), slice(0, 2000) if n else slice(8020, 10_020)
        part = box[rows, cols]  # what lies under the chunk: the rest need not be written
        folder = mosaic.folder / "10m" / name
        folder.mkdir(parents=True)
        mosaic.add(f"10m/{name}/{name}_10m_v4.1", part, make_surface(part) + 5 * n)
    return mosaic.folder, geobox


def test_files_are_below_a_base_of_choice(own_files, make_surface, tmp_path: Path) -> None:
    folder, geobox = own_files
    index = write_index(tmp_path, "geopackage.gpkg")
    data = ArcticDemTiles(f"{index}#{folder}").read_chunk(geobox)
    assert data.sources == ("60_42_10m_v4.1", "60_43_10m_v4.1")
    assert data.fill_fraction == 1
    x = geobox.affine.c + (np.arange(1024) + 0.5) * 10
    expected = make_surface(geobox) + np.where(x < 200_100, 0, 5).astype("float32")  # the first id's buffer wins
    np.testing.assert_allclose(data.values["dem"], expected, atol=1e-3)
    assert data.values["arcticdem_data_mask"].all()


def test_a_listed_tile_without_a_file_is_an_error(own_files, tmp_path: Path) -> None:
    folder, geobox = own_files
    index = write_index(tmp_path, "geopackage.gpkg")
    (folder / "10m/60_43/60_43_10m_v4.1_dem.tif").unlink()
    with pytest.raises(RasterError, match=r"10m/60_43/60_43_10m_v4\.1_dem\.tif cannot be read"):
        ArcticDemTiles(f"{index}#{folder}").read_chunk(geobox)


def test_what_is_no_index_is_named(tmp_path: Path) -> None:
    geobox = arcticdem_spec(10).grid.chunk_geobox(200, 420)
    good = layers()[2]

    def error(frame: gpd.GeoDataFrame | bytes, name: str = "index.parquet") -> str:
        path = tmp_path / name
        path.write_bytes(frame) if isinstance(frame, bytes) else frame.to_parquet(path)
        with pytest.raises(CubeError) as caught:
            ArcticDemTiles(str(path)).under(geobox)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "is in WGS 84 / UTM zone 33N, expected an index of tiles in EPSG:3413" in error(
        good.set_crs("EPSG:32633", allow_override=True)
    )
    assert "has the columns dem_id, supertile" in error(good.drop(columns="tile"))
    assert "'utm19n_60_06_1_2' is not an ArcticDEM tile such as 60_42" in error(good.assign(tile="utm19n_60_06_1_2"))
    assert "lists tiles of 32 m, expected ArcticDEM tiles of 10 m" in error(layers()[32])
    assert "lists tiles of no m" in error(good[:0])
    for name in ("index.parquet", "index.gpkg", "index.shp", "index.zip"):
        assert "cannot be read as an index of tiles" in error(b"nonsense", name)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(CubeError, match=r"other\.zip cannot be read as an index of tiles: it contains no file"):
        ArcticDemTiles(str(tmp_path / "other.zip")).under(geobox)
    with pytest.raises(CubeError, match=r"nowhere\.gpkg cannot be read as an index of tiles"):
        ArcticDemTiles(str(tmp_path / "nowhere.gpkg")).under(geobox)
    with pytest.raises(CubeError, match=r"https://host/index\.zip: an index of tiles must be a local file"):
        ArcticDemTiles("https://host/index.zip").under(geobox)
