"""A sample is drawn, reviewed and estimated in a store; a drawn sample stays as it is."""

import io
import uuid
from pathlib import Path
from typing import Any

import dagster as dg
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from darts_assets.area_estimation.area_sample_store import read_sample
from darts_assets.geo.equal_area import to_equal_area
from darts_assets.inventory.inventory_store import write_inventory
from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.yearly_inventory import empty_inventory
from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.orchestration.core.scene_store import SceneRegistry
from darts_assets.orchestration.inventory.area_assets import build_area_assets
from darts_assets.orchestration.inventory.point_pictures import read_pictures
from darts_assets.review.verdict_record import PointVerdict
from darts_assets.review.verdict_store import PointVerdictStore, read_verdicts
from darts_assets.stores.publish import Manifest
from darts_assets.stores.tiles import write_tile
from darts_assets.stores.vectors import write_vectors
from darts_assets.tiles import TileStream, on_grid
from tests.inventory.planted import SOUTH, WEST, Planted, brought_to, square

SAMPLE, ESTIMATE = build_area_assets()
SIDE = 250
BOX = GeoBox((SIDE, SIDE), Affine(10, 0, WEST - 250, 0, -10, SOUTH + 2250), "EPSG:32608")
AREA = square(0, 0, 2000)
SLUMPS = [square(500, 500, 200), square(1200, 1200, 100)]
MISSED = square(300, 1500, 200)
CLOUD = square(1000, 0, 1000)
SCENES = [
    Planted(180, SLUMPS, extent=AREA, clouds=CLOUD),
    Planted(215, SLUMPS[:1], extent=AREA, clouds=shapely.Polygon()),
    Planted(190, [], extent=square(0, 0, 700), clouds=shapely.Polygon()),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the inventory of 2023, the polygons of its scenes, and the tile of one of them."""
    store = Store(url=str(tmp_path / "store"))
    for scene in SCENES:
        tables = {"segments": scene.segments(), "clear": scene.observed(), "extent": scene.valid_area()}
        place = store.place("vectors", scene.family, "polygons", scene.id)
        write_vectors(place, tables, {"provenance": {"data_version": scene.version}})
    publish(store, SCENES)
    tile(store, SCENES[1])
    return store


def publish(store: Store, scenes: list[Planted], **verdicts: str) -> None:
    inventory = brought_to(empty_inventory(2023, InventoryParameters()), scenes)
    sites = inventory.sites.assign(reviewed=False, verdict=list(verdicts.values()) or "", reviewers=0, agreement=np.nan)
    inventory = type(inventory)(2023, inventory.parameters, inventory.scenes, inventory.detections, sites)
    facts = {"data_version": f"of {len(scenes)} scenes", "parameters": {}}
    write_inventory(store.place("inventory", "rts", "2023"), inventory, {"provenance": facts})


def tile(store: Store, scene: Planted) -> None:
    grey = np.tile(np.linspace(0.02, 0.12, SIDE, dtype=np.float32), (SIDE, 1))
    bands = dict.fromkeys(("red", "green", "blue"), grey) | {"quality_data_mask": np.full((SIDE, SIDE), 2, np.uint8)}
    stream = TileStream(BOX, tuple(bands), iter([on_grid(bands, BOX)]))
    place = store.place("tiles", scene.family, "preprocessed_tile", scene.id)
    write_tile(place, stream, metadata={"provenance": {"data_version": "1"}})


def run(store: Store, asset: dg.AssetsDefinition, **config: Any) -> dict[str, Any]:
    """Metadata of a materialization of 2023."""
    resources = {"store": store, "scenes": SceneRegistry(store=store, access=SourceAccess())}
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [asset], partition_key="2023", instance=instance, resources=resources,
            run_config={"ops": {asset.op.name: {"config": config}}}, raise_on_error=False,
        )  # fmt: skip
        if not result.success:
            (failure,) = [event for event in result.all_events if event.is_step_failure]
            raise AssertionError(failure.step_failure_data.user_failure_data.description)
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def sample(store: Store, name: str = "1") -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    place = store.place("area_estimation", "sample", "2023", name)
    return read_sample(place, place.require())


def equal_area(*shapes: shapely.Geometry) -> Any:
    return shapely.union_all(to_equal_area(gpd.GeoDataFrame(geometry=list(shapes), crs=32608)))


def decided(
    points: gpd.GeoDataFrame, verdicts: list[str], reviewer: str = "Ada", minute: int = 0
) -> list[PointVerdict]:
    return [
        PointVerdict(
            id=str(uuid.uuid4()), time=f"2026-07-01T12:{minute:02d}:00Z", reviewer=reviewer, note="", year=2023,
            inventory_version="v", verdict=verdict, sample_id=row.sample_id, point=[row.lon, row.lat],
        )
        for row, verdict in zip(points.itertuples(), verdicts, strict=True)
    ]  # fmt: skip


def test_a_sample_is_drawn_reviewed_and_estimated(store: Store) -> None:
    config = {"points": 200, "min_points": 40, "near_distance": 50.0}
    metadata = run(store, SAMPLE, **config)
    points, strata = sample(store)
    assert metadata["is_new"] is True
    assert metadata["dagster/row_count"] == len(points) == 200
    assert strata["stratum"].tolist() == ["08W/detected-0.7-1", "08W/near", "08W/rest"]
    true_area = equal_area(AREA)
    assert strata["area_ha"].sum() * 1e4 == pytest.approx(shapely.area(true_area), rel=1e-6)
    assert points.within(true_area.buffer(0.01)).all()
    files = store.root.path / "area_estimation" / "sample" / "2023" / "1" / "latest"
    form = gpd.read_file(files / "to_review.gpkg", engine="pyogrio")
    columns = ["sample_id", "year", "lon", "lat", "verdict", "reviewer", "note", "inventory_version", "geometry"]
    assert list(form.columns) == columns
    assert form.crs == "EPSG:4326"
    assert pd.read_csv(files / "strata.csv")["points"].sum() == 200

    # A reviewer who knows the truth, but for three points.
    truth = equal_area(*SLUMPS, MISSED)
    verdicts = ["yes" if inside else "no" for inside in points.within(truth)]
    table = PointVerdictStore(store.root)
    table.append(decided(points[3:], verdicts[3:]))
    table.append(decided(points[:3], ["unsure"] * 3))
    metadata = run(store, ESTIMATE)
    assert metadata["low_ha"] <= shapely.area(truth) / 1e4 <= metadata["high_ha"]
    assert metadata["mapped_ha"] == pytest.approx(shapely.area(equal_area(*SLUMPS)) / 1e4, rel=1e-4)
    assert metadata["area_ha"] == pytest.approx(shapely.area(truth) / 1e4, rel=0.5)
    assert (metadata["unsure"], metadata["open"]) == (3, 0)
    assert metadata["yes"] == sum(verdict == "yes" for verdict in verdicts[3:])
    assert "data:image/webp" in metadata["Chart"]
    written = store.root.path / "area_estimation" / "estimate" / "2023" / "1" / "latest"
    area = pd.read_csv(written / "area.csv").set_index("region")
    assert area["area_ha"]["total"] == pytest.approx(metadata["area_ha"], abs=1e-4)
    judged = gpd.read_file(written / "points.gpkg", engine="pyogrio")
    misses = judged[judged["result"] == "miss"]
    assert len(misses) > 0
    assert misses.within(equal_area(MISSED)).all()

    # Verdicts about points reject nothing.
    assert read_verdicts(store.root) == []


def test_each_point_has_a_picture_of_its_clearest_scene_with_a_tile(store: Store) -> None:
    metadata = run(store, SAMPLE, points=60, min_points=20)
    place = store.place("area_estimation", "sample", "2023", "1")
    pictures = read_pictures(place, place.require())
    assert metadata["pictures"] == len(pictures.images) == 60
    assert set(pictures.views["scene"]) == {SCENES[1].id}, "the only one with a tile"
    assert pictures.views["clear_share"].between(0.2, 1).all()
    for chip in pictures.images.values():
        assert len(chip.image) < 15_000
        assert chip.width_m == 600
        picture = np.asarray(Image.open(io.BytesIO(chip.image)).convert("RGB")).astype(int)
        assert np.ptp(picture.mean(axis=-1)) > 20, "shows the ground"

    # Released tiles: no picture, but the clearest scene; later the tiles are there again, and the points the same.
    tile_place = store.place("tiles", "sentinel2", "preprocessed_tile", SCENES[1].id)
    tile_place.amend(
        lambda manifest: Manifest(
            {}, manifest.metadata | {"released": {"since": "2026-01-01", "again": "x"}}, dict.fromkeys(manifest.versions, "2026-01-01T00:00:00+00:00")  # noqa: E501
        )
    )  # fmt: skip
    assert run(store, SAMPLE, points=60, min_points=20)["pictures"] == 60, "those that exist are kept"
    assert run(store, SAMPLE, sample="2", points=60, min_points=20)["pictures"] == 0
    second = store.place("area_estimation", "sample", "2023", "2")
    views = read_pictures(second, second.require()).views
    assert set(views["scene"]) == {SCENES[1].id}, "the clearest one, though it has no tile"
    before, _ = sample(store, "2")
    tile(store, SCENES[0])
    metadata = run(store, SAMPLE, sample="2", points=60, min_points=20)
    points, _ = sample(store, "2")
    assert 0 < metadata["pictures"] < 60, "a part of them is clouded in that scene"
    assert points.equals(before)


def test_a_drawn_sample_does_not_change(store: Store) -> None:
    run(store, SAMPLE, points=50, min_points=10)
    before, strata = sample(store)
    publish(store, SCENES[:1])
    assert run(store, SAMPLE, points=50, min_points=10)["is_new"] is False
    points, same = sample(store)
    assert points.equals(before)
    assert same.equals(strata)
    with pytest.raises(AssertionError, match=r"was drawn with seed 0, not 1\. A drawn sample does not change: choose"):
        run(store, SAMPLE, points=50, min_points=10, seed=1)
    assert run(store, SAMPLE, sample="b", points=50, min_points=10, seed=1)["is_new"] is True
    assert not set(sample(store, "b")[0]["sample_id"]) & set(points["sample_id"])


def test_an_area_of_interest_and_rejected_sites(store: Store, tmp_path: Path) -> None:
    aoi = tmp_path / "aoi.gpkg"
    gpd.GeoDataFrame(geometry=[square(0, 0, 1000)], crs=32608).to_file(aoi)
    metadata = run(store, SAMPLE, points=50, min_points=10, aoi=str(aoi), by_region=False)
    _, strata = sample(store)
    assert metadata["observed_ha"] * 1e4 == pytest.approx(shapely.area(equal_area(square(0, 0, 1000))), rel=1e-5)
    assert strata["area_ha"].iloc[0] * 1e4 == pytest.approx(shapely.area(equal_area(SLUMPS[0])), rel=1e-3)
    publish(store, SCENES, first="no", second="")
    run(store, SAMPLE, sample="without-rejected", points=50, min_points=10, by_region=False)
    _, strata = sample(store, "without-rejected")
    detected = strata.loc[strata["map_class"] == "detected", "area_ha"].sum() * 1e4
    assert min(abs(detected / shapely.area(equal_area(one)) - 1) for one in SLUMPS) < 1e-3
    elsewhere = tmp_path / "elsewhere.gpkg"
    gpd.GeoDataFrame(geometry=[square(50_000, 0, 1000)], crs=32608).to_file(elsewhere)
    with pytest.raises(AssertionError, match=r"elsewhere\.gpkg: no scene of the year observes a part of it"):
        run(store, SAMPLE, sample="far", aoi=str(elsewhere))


def test_a_later_verdict_and_several_reviewers(store: Store) -> None:
    run(store, SAMPLE, points=50, min_points=10)
    points, _ = sample(store)
    table = PointVerdictStore(store.root)
    table.append(decided(points, ["yes"] * 50))
    table.append(decided(points, ["no"] * 50, minute=1))
    metadata = run(store, ESTIMATE)
    assert (metadata["yes"], metadata["no"], metadata["area_ha"]) == (0, 50, 0)
    table.append(decided(points[:5], ["yes"] * 5, reviewer="Bo"))
    assert run(store, ESTIMATE)["unsure"] == 5, "a tie"


def test_without_a_sample_or_verdicts(store: Store) -> None:
    with pytest.raises(AssertionError, match=r"2023 has no sample 'x': materialize area_estimation/sample first"):
        run(store, ESTIMATE, sample="x")
    run(store, SAMPLE, points=50, min_points=10)
    metadata = run(store, ESTIMATE)
    assert metadata["open"] == 50
    assert "area_ha" not in metadata
