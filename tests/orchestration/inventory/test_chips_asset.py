"""Chips of slumps in a store: of the products, or drawn from tiles, and only once."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from darts_assets.detection.chips import DETECTED, NOT_DETECTED, write_chips
from darts_assets.inventory.inventory_store import write_followed, write_inventory
from darts_assets.inventory.site_parameters import FollowParameters, InventoryParameters
from darts_assets.inventory.slumps import follow
from darts_assets.inventory.table_schemas import CHIP_COLUMNS
from darts_assets.inventory.yearly_inventory import empty_inventory
from darts_assets.orchestration.core.resources import Room, Store
from darts_assets.orchestration.inventory import stored_chips
from darts_assets.orchestration.inventory.chips_asset import inventory_chips
from darts_assets.stores.publish import Manifest
from darts_assets.stores.tiles import read_tile, write_tile
from darts_assets.tiles import TileStream, on_grid
from tests.inventory.planted import SOUTH, WEST, Planted, Tables, brought_to, square
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

SIDE = 200
BOX = GeoBox((SIDE, SIDE), Affine(10, 0, WEST - 950, 0, -10, SOUTH + 1050), "EPSG:32608")


@pytest.fixture(params=["path", pytest.param("s3", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store with products elsewhere."""
    if request.param == "path":
        yield Store(url=str(tmp_path / "store"), rooms={"products": Room(url=str(tmp_path / "elsewhere"))})
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    root, other = server.location("root"), server.location("elsewhere")
    yield Store(url=root.url, endpoint=root.endpoint, rooms={"products": Room(url=other.url, endpoint=other.endpoint)})
    server.stop()


def tile(store: Store, scene: Planted, version: str = "1") -> None:
    """Publish the features and the probabilities of a scene."""
    grey = np.tile(np.linspace(0.02, 0.12, SIDE, dtype=np.float32), (SIDE, 1))
    optical = dict.fromkeys(("red", "green", "blue"), grey)
    layers = {
        "preprocessed_tile": optical | {"quality_data_mask": np.full((SIDE, SIDE), 2, np.uint8)},
        "segmentation": {"probabilities": grey * 8},
    }
    for step, bands in layers.items():
        stream = TileStream(BOX, tuple(bands), iter([on_grid(bands, BOX)]))
        facts = {"provenance": {"data_version": version}}
        write_tile(store.place("tiles", "sentinel2", step, scene.id), stream, metadata=facts)


def products(store: Store, scene: Planted, folder: Path) -> str:
    """Publish products with chips, from the stored tile of a scene; returns their version."""
    steps = ("preprocessed_tile", "segmentation")
    features, probabilities = (read_tile(store.place("tiles", "sentinel2", step, scene.id)) for step in steps)
    segments = scene.segments().assign(npixel=100)
    path = write_chips(folder / "chips.zip", features, segments, probabilities["probabilities"])
    place = store.place("products", "sentinel2", scene.id)
    facts = {"provenance": {"inputs": {"polygons": scene.version}}}
    with place.new_version() as version:
        version.location.objects().put("chips.zip", path)
        place.publish(version, {"chips.zip": version.id}, facts)
    return version.id


def inventory(store: Store, *scenes: Planted) -> None:
    """Publish the inventory of scenes, years and slumps."""
    years = {}
    for year in sorted({scene.year for scene in scenes}):
        of_year = [scene for scene in scenes if scene.year == year]
        years[year] = brought_to(empty_inventory(year, InventoryParameters()), of_year)
        write_inventory(store.place("inventory", "rts", str(year)), years[year], {})
    sites, looks = ({year: getattr(of, name) for year, of in years.items()} for name in ("sites", "scenes"))
    followed = follow(sites, looks, Tables(list(scenes)).observed, FollowParameters())
    facts = {"provenance": {"data_version": f"{len(scenes)}"}}
    write_followed(store.place("inventory", "slumps"), followed, facts)


def update(store: Store) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run the asset: table and metadata."""
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([inventory_chips], resources={"store": store}, instance=instance)
    (event,) = result.get_asset_materialization_events()
    place = store.place("inventory", "chips")
    metadata = {name: value.value for name, value in event.materialization.metadata.items()}
    return stored_chips.read_chips(place, place.require()), metadata


def image(store: Store, row: Any) -> np.ndarray:
    """The picture of a row, read as a page reads it: a range of bytes of a key."""
    *folder, name = row.key.split("/")
    objects = store.root.child(*folder).objects()
    content = bytes(objects.get_range(name, start=row.offset, length=row.length))
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def counts(metadata: dict[str, Any]) -> tuple[int, ...]:
    return tuple(metadata[name] for name in ("kept", "from_products", "drawn", "without_tile"))


def has(color: tuple[int, int, int], picture: np.ndarray) -> bool:
    """Whether a grey picture has lines of a hue, outside of its corner."""
    least, most = int(np.argmin(color)), int(np.argmax(color))
    part = picture[:120, :120]
    return bool(((part[..., most] - part[..., least] > 60) & (part.argmin(axis=-1) == least)).any())


def test_chips_come_from_the_products_or_are_drawn_and_only_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, missed, lost, last = (
        Planted(180, [square(0, 0)], year=2020),
        Planted(190, [], year=2021),
        Planted(190, [], year=2022),
        Planted(200, [square(0, 0, 120), square(600, 0)], year=2023),
    )
    scenes = [first, missed, lost, last]
    for scene in (first, missed, last):
        tile(store, scene)
    version = products(store, last, tmp_path)
    inventory(store, *scenes)
    table, metadata = update(store)
    assert list(table.columns) == list(CHIP_COLUMNS)
    slump = table["slump_id"].value_counts().idxmax()
    rows = list(table[table["slump_id"] == slump].itertuples())
    assert [(row.year, row.scene, row.detected) for row in rows] == [
        (2020, first.id, True), (2021, missed.id, False), (2023, last.id, True),
    ]  # fmt: skip
    assert [row.site_id != "" for row in rows] == [True, False, True]
    assert rows[2].key == f"products/sentinel2/{last.id}/{version}/chips.zip"
    here = "inventory/chips/" + next(iter(store.place("inventory", "chips").require().versions))
    assert {row.key.rpartition("/")[0] for row in rows[:2]} == {here}
    assert [row.width_m for row in rows] == [600] * 3
    assert [has(DETECTED, image(store, row)) for row in rows] == [True, False, True]
    assert [has(NOT_DETECTED, image(store, row)) for row in rows] == [False, True, False]
    assert counts(metadata) == (0, 2, 2, 1), "2022 has no tile"
    before = [image(store, row) for row in rows]

    # Again: nothing is read or drawn, also without the tiles and the products, whose chips move to the new version.
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("drawn or read again")

    with monkeypatch.context() as patched:
        patched.setattr(stored_chips, "draw_chips", never)
        patched.setattr(stored_chips._Update, "_directory", never)
        again, metadata = update(store)
    assert counts(metadata) == (4, 0, 0, 1)
    assert set(again["key"]).isdisjoint(set(table["key"]) - {rows[2].key})
    rows = list(again[again["slump_id"] == slump].itertuples())
    assert all((image(store, row) == picture).all() for row, picture in zip(rows, before, strict=True))

    # A tile that was made again, new products, and a year that has its tile now.
    tile(store, missed, "2")
    tile(store, lost)
    newer = products(store, last, tmp_path)
    table, metadata = update(store)
    assert counts(metadata) == (1, 2, 2, 0)
    assert {key.split("/")[3] for key in table["key"] if key.startswith("products")} == {newer}
    files = store.place("inventory", "chips").require().contents
    assert len(files) == 3, "the table, the kept chip, the new chips"


def test_a_released_tile_keeps_its_chips_and_gives_no_new_ones(store: Store) -> None:
    scenes = [Planted(180, [square(0, 0)], year=2020), Planted(190, [], year=2021)]
    for scene in scenes:
        tile(store, scene)
    inventory(store, *scenes)
    assert counts(update(store)[1]) == (0, 0, 2, 0)
    place = store.place("tiles", "sentinel2", "preprocessed_tile", scenes[1].id)
    release: Callable[[Manifest], Manifest] = lambda manifest: Manifest(  # noqa: E731
        {}, manifest.metadata | {"released": {"since": "2026-01-01", "again": "x"}}, dict.fromkeys(manifest.versions, "2026-01-01T00:00:00+00:00"),  # noqa: E501
    )  # fmt: skip
    place.amend(release)
    assert counts(update(store)[1]) == (2, 0, 0, 0)
    moved = [Planted(180, [square(20, 0)], year=2020), scenes[1]]
    inventory(store, *moved)
    assert counts(update(store)[1]) == (0, 0, 1, 1)


def test_chips_of_damaged_products_are_drawn_and_the_scene_is_named(store: Store, tmp_path: Path) -> None:
    scene = Planted(180, [square(0, 0)])
    tile(store, scene)
    version = products(store, scene, tmp_path)
    objects = store.root.child("products", "sentinel2", scene.id, version).objects()
    objects.put("chips.zip", b"PK damaged")
    inventory(store, scene)
    table, metadata = update(store)
    assert counts(metadata) == (0, 0, 1, 0)
    assert table["key"][0].startswith("inventory/chips/")
    assert list(metadata["problems"]) == [scene.id]
    assert "chips.zip is not a file of chips" in metadata["problems"][scene.id]


def test_products_of_other_polygons_have_other_numbers(store: Store, tmp_path: Path) -> None:
    scene = Planted(180, [square(0, 0)])
    tile(store, scene)
    products(store, scene, tmp_path)
    inventory(store, Planted(180, [square(0, 0)], version="2"))
    table, metadata = update(store)
    assert counts(metadata) == (0, 0, 1, 0)
    assert table["key"][0].startswith("inventory/chips/")


def test_slumps_of_an_earlier_version_have_the_chips_of_their_detections(store: Store) -> None:
    scenes = [Planted(180, [square(0, 0)], year=2020), Planted(190, [], year=2021)]
    for scene in scenes:
        tile(store, scene)
    inventory(store, *scenes)
    place = store.place("inventory", "slumps")
    place.amend(
        lambda manifest: Manifest(
            {name: of for name, of in manifest.contents.items() if name != "observers.parquet"}, manifest.metadata
        )
    )
    assert list(update(store)[0]["year"]) == [2020]
