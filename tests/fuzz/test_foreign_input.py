"""Damaged input of others ends in an error of ours, never in a traceback, and takes no memory to speak of.

By default each target is tried for about a second. For longer, one process per target; libraries alone reserve 2 GiB of
addresses:

    DARTS_ASSETS_TEST_FUZZ_SECONDS=600 prlimit --as=4294967296 pytest -n 0 -s tests/fuzz -k item

`DARTS_ASSETS_TEST_FUZZ_SEED` starts elsewhere (default 0).
"""

import datetime as dt
import itertools
import json
import os
import pickle
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import geopandas as gpd
import hypothesis
import pytest
import shapely
from hypothesis import strategies as st

from darts_assets.errors import DartsError, VerdictError
from darts_assets.geo.antimeridian import lonlat_area
from darts_assets.geo.aoi import read_aoi
from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.model.header import read_description
from darts_assets.orchestration.scene_discovery.planet_sensor import Arriving
from darts_assets.orchestration.scene_discovery.sensor_base import read_cursor
from darts_assets.orchestration.scene_discovery.watched_areas import Positions
from darts_assets.review.judgement import judge, verdict_table
from darts_assets.review.verdict_record import parsed_request, unique
from darts_assets.review.verdict_store import parsed_lines
from darts_assets.sources import S3Options, parse_item
from darts_assets.sources.sentinel2.parse_item import PROVIDERS, asset_keys
from darts_assets.sources.stac.read_item import read_item
from darts_assets.stores.former_tiles import former_manifest, former_tiles
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from tests.fuzz.mutations import damaged, documents, texts
from tests.review.verdict_samples import SQUARE, record

SECONDS = float(os.environ.get("DARTS_ASSETS_TEST_FUZZ_SECONDS", "1"))
SEED = int(os.environ.get("DARTS_ASSETS_TEST_FUZZ_SEED", "0"))
MOST_KIBIBYTES = 2**20
"""Memory that all examples may take beyond that of the process, which may have run models before."""


def kibibytes(name: str) -> int:
    """A figure of this process: `VmRSS` (memory) or `VmHWM` (its peak)."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def fuzz(strategy: st.SearchStrategy[Any], use: Callable[[Any], object], *errors: type[Exception]) -> None:
    """Call `use` with examples for `SECONDS`; it may raise `errors` only, none of them for lack of memory."""
    outcomes: Counter[str] = Counter()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the process begins anew
    before = kibibytes("VmRSS")

    def attempt(example: Any) -> None:
        try:
            use(example)
            outcomes["accepted"] += 1
        except errors as error:
            outcomes[type(error).__name__] += 1
            cause: BaseException | None = error
            while cause is not None:
                assert not isinstance(cause, MemoryError)
                cause = cause.__cause__ or cause.__context__

    options = hypothesis.settings(
        max_examples=50, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    end = time.monotonic() + SECONDS
    for seed in itertools.count(SEED):
        options(hypothesis.seed(seed)(hypothesis.given(strategy)(attempt)))()
        if time.monotonic() > end:
            break
    taken = kibibytes("VmHWM") - before
    print(f"\n{outcomes.total()} examples: {dict(outcomes)}; memory {taken / 1024:.0f} MiB; last seed {seed}")
    assert taken <= MOST_KIBIBYTES


def item_of(provider: str) -> dict[str, Any]:
    scene_id = "S2A_MSIL2A_20230615T205931_N0509_R100_T08WMB_20230616T001452"
    grid = {"proj:code": "EPSG:32608", "proj:shape": [10980, 10980], "proj:transform": [10, 0, 399960, 0, -10, 7700040]}
    scale = {"raster:scale": 1e-4, "raster:offset": -0.1}
    bands = {
        "bands": [{"nodata": 0, "data_type": "uint16", **scale}],
        "raster:bands": [{"scale": 1e-4, "offset": -0.1}],
    }
    assets = {
        key: {
            "href": f"https://eodata/{key}.jp2",
            "roles": ["data"],
            "file:size": 1,
            "file:checksum": "12",
            **grid,
            **bands,
        }
        for key in asset_keys(provider).values()
    }
    properties = {
        "datetime": "2023-06-15T20:59:31.024Z", "processing:version": "05.09", "s2:processing_baseline": "05.09",
        "eo:cloud_cover": 3.5, "view:sun_azimuth": 170.0, "view:sun_elevation": 40.0, "grid:code": "MGRS-08WMB",
        "proj:epsg": 32608, "earthsearch:boa_offset_applied": True, "s2:product_type": "S2MSI2A",
    }  # fmt: skip
    geometry = shapely.geometry.mapping(shapely.box(-139, 69, -138, 69.5))
    whole = {"type": "Feature", "id": scene_id, "collection": "sentinel-2-l2a", "geometry": geometry, "links": []}
    return {**whole, "properties": properties, "assets": assets}


def test_item(tmp_path: Path) -> None:
    path = tmp_path / "item.json"

    def parse(content: bytes) -> None:
        path.write_bytes(content)
        parse_item(read_item(str(path)))

    fuzz(texts([item_of(provider) for provider in PROVIDERS]), parse, DartsError)


@pytest.mark.filterwarnings("ignore")
def test_aoi(tmp_path: Path) -> None:
    shapes = [
        shapely.box(-139, 69, -138, 69.5),
        shapely.Polygon([(179, 70), (-179, 70), (-179, 71)]),
        shapely.Point(1, 2),
    ]
    table = gpd.GeoDataFrame({"name": ["a", "b", "c"]}, geometry=shapes, crs=4326)
    for name in ("a.gpkg", "a.fgb", "a.geojson"):
        table.to_file(tmp_path / name)
    table.to_parquet(tmp_path / "a.parquet")
    table[:2].to_crs(3413).to_file(tmp_path / "a.shp")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for suffix in ("shp", "shx", "dbf", "prj"):
            archive.write(tmp_path / f"a.{suffix}", f"a.{suffix}")
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3413"}}
    document = json.loads((tmp_path / "a.geojson").read_text())
    binary = [(tmp_path / f"a.{suffix}").read_bytes() for suffix in ("gpkg", "fgb", "parquet", "zip")]
    path = tmp_path / "aoi.gpkg"

    def read(content: bytes) -> None:
        path.write_bytes(content)
        area = read_aoi(str(path), S3Options())
        lonlat_area(area.geometry, area.crs)

    bases = [document, {**document, "crs": crs}, document["features"][0], document["features"][0]["geometry"]]
    # Not st.sampled_from(binary): errors would quote all of it.
    files = st.integers(0, len(binary) - 1).flatmap(lambda number: damaged(binary[number]))
    fuzz(texts(bases) | files, read, DartsError)


def test_manifest(tmp_path: Path) -> None:
    body = {"contents": {"blue": "20240101T000000Z-abcdef"}, "metadata": {"provenance": {"data_version": "1"}}}
    body |= {"replaced": {"20230101T000000Z-abcdef": "2024-01-01T00:00:00+00:00"}, "writer": "20240101T000000Z-abcdef"}
    root = {"zarr_format": 3, "node_type": "group", "attributes": {"darts_assets": body}}
    for name in ("raw/cdse/tile", "raw/cdse/tile.zarr"):
        (tmp_path / name).mkdir(parents=True)

    def read(example: tuple[bool, bytes]) -> None:
        is_former, content = example
        (tmp_path / "raw/cdse" / ("tile.zarr/zarr.json" if is_former else "tile/current.json")).write_bytes(content)
        if is_former:
            for former in former_tiles(StoreLocation(str(tmp_path))):
                former_manifest(former)
            return
        manifest = Place(StoreLocation(str(tmp_path / "raw/cdse/tile"))).manifest()
        if manifest is not None:
            assert all(isinstance(part, str) for pair in manifest.contents.items() for part in pair)
            assert isinstance(manifest.metadata, dict)

    fuzz(st.tuples(st.booleans(), texts([body, root])), read, DartsError)


@st.composite
def checkpoints(draw: st.DrawFn) -> bytes:
    """A zip with a damaged pickle, a pickle of a damaged document, or a damaged zip."""
    model = {"arch": "unet", "encoder_name": "resnet18", "in_channels": 2, "classes": 1, "decoder_channels": [8, 8]}
    config = {"model": model, "bands": ["red", "nir"], "terrain": "physical", "normalization": 1}
    lightning = {"hyper_parameters": {"config": config}, "state_dict": {"model.a": [1.0]}, "epoch": 3}
    legacy = {"config": {**config, "bands": {"bands": ["red", "nir"]}}, "statedict": {"a": 1}}
    document = draw(documents([lightning, legacy]))
    try:
        content = pickle.dumps(document, protocol=draw(st.integers(0, 5)))
    except (RecursionError, UnicodeEncodeError):
        content = b"]" * 1000
    content = draw(damaged(content))
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", content)
        archive.writestr("x/data/0", bytes(64))
    return draw(damaged(buffer.getvalue())) if draw(st.integers(0, 3)) == 0 else buffer.getvalue()


def test_checkpoint() -> None:
    fuzz(checkpoints(), lambda content: read_description(BytesIO(content), "a.ckpt", "a"), DartsError)


def test_verdicts() -> None:
    """What is accepted can be stored, and is matched with sites."""
    sites = gpd.GeoDataFrame({"year": [2024]}, geometry=[shapely.box(-135, 68.5, -134.9, 68.6)], crs=4326).to_crs(6931)
    several = {"type": "MultiPolygon", "coordinates": [SQUARE, SQUARE]}
    records = [record(), record(outline=several, note="a\nb", mean_probability=None)]

    def read(content: bytes) -> None:
        verdicts = parsed_request(content)
        lines = "".join(f"{verdict.line()}\n" for verdict in verdicts).encode()
        assert parsed_lines(lines, "lines") == verdicts
        assert len(judge(sites, verdict_table(unique(verdicts)), InventoryParameters())) == 1

    fuzz(texts([{"verdicts": [each]} for each in records]), read, VerdictError)


def test_cursor() -> None:
    now, day = dt.datetime.now(dt.UTC), "2024-06-01T00:00:00Z"
    position = {"selection": "a", "since": day, "reached": "2024-06-02T00:00:00Z"}
    sensed = {"version": 1, "areas": {"a": position, "b": {**position, "reached": None}}, "asked": {"a": day, "b": day}}
    arriving = {"version": 1, "seen": {"a": "b"}, "broken": {"c": "d"}, "turn": 3}

    def read(example: tuple[type[Positions | Arriving], bytes]) -> None:
        kind, content = example
        context: Any = SimpleNamespace(cursor=content.decode("utf-8", "surrogateescape"), log=MagicMock())
        cursor: Any = read_cursor(context, kind, "")
        if kind is Positions:
            for place in cursor.only(cursor.areas.keys() | {"x"}).areas.values():
                for ended in (True, False):
                    place.after(place.start, now, dt.timedelta(days=365), ended=ended).start.strftime("%Y-%m-%d %H:%M")
            sorted([now, *cursor.asked.values()])
        cursor.model_dump_json()

    fuzz(st.tuples(st.sampled_from([Positions, Arriving]), texts([sensed, arriving])), read)
