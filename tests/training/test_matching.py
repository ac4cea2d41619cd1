"""Scenes for footprints of the real archive, from a real STAC API: which is best, and that nobody is asked twice."""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import shapely
from shapely.affinity import scale, translate

from darts_assets.errors import TrainingError
from darts_assets.sources.stac.scene_selection import Selection
from darts_assets.sources.stac.search import StacCatalog
from darts_assets.sources.stac.services import CDSE
from darts_assets.stores.location import StoreLocation
from darts_assets.training.labels import read_archive
from darts_assets.training.matching import (
    MatchParameters,
    best_matches,
    image_time,
    match,
    read_scores,
    score,
    unmatched,
)

SCENE, ORTHOTILE = "20200814_044132_1026", "4694518_0870514_2021-07-15_1064"
TIMES = {
    SCENE: dt.datetime(2020, 8, 14, 4, 41, 32, tzinfo=dt.UTC),
    ORTHOTILE: dt.datetime(2021, 7, 15, 12, tzinfo=dt.UTC),
}


def item(name: str, time: dt.datetime, cloud: float | None, shape: shapely.Geometry) -> dict[str, Any]:
    """An item of CDSE; the orbit in its id tells one from the other."""
    made = f"S2A_MSIL2A_{time:%Y%m%dT%H%M%S}_N0500_R{name}_T08WMB_20230101T000000"
    properties = {"datetime": f"{time:%Y-%m-%dT%H:%M:%SZ}", "grid:code": "MGRS-08WMB", "processing:version": "05.00"}
    properties |= {"published": "2023-01-01T00:00:00Z", "eo:snow_cover": 50.0} | (
        {} if cloud is None else {"eo:cloud_cover": cloud}
    )
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": made, "geometry": shapely.geometry.mapping(shape),
        "bbox": list(shape.bounds), "links": [], "assets": {}, "properties": properties,
    }  # fmt: skip


@pytest.fixture(scope="module")
def footprints(shared) -> gpd.GeoDataFrame:
    table = read_archive(shared / "data" / "ml_training_labels").footprints
    return table[table["image_id"].isin(TIMES)].reset_index(drop=True)


@pytest.fixture(scope="module")
def api(stac_api, footprints):
    """For each image: one that is best, and one that loses for each reason."""
    items = []
    for image, shape in zip(footprints["image_id"], footprints.geometry, strict=True):
        box, time, day = scale(shapely.box(*shape.bounds), 2, 2), TIMES[image], dt.timedelta(days=1)
        west, _, east, _ = shape.bounds
        half = translate(box, xoff=(box.bounds[2] - box.bounds[0]) * 0.75 - (east - west) * 0.6)
        items += [
            item("001", time + 1 * day, 2.0, box),  # (2/5)^2 + (1/2)^2
            item("002", time - 6.9 * day, 0.0, box),  # clear, but a week before
            item("003", time, 9.5, box),  # the peer's score rewards its clouds
            item("004", time, 0.0, half),  # covers less than seven tenths
            item("005", time + 9 * day, 0.0, box),
            item("006", time, 60.0, box),
            item("007", time, None, box),
            item("008", time, 0.0, translate(box, xoff=20)),
        ]
    stac_api.load(CDSE.collection, items)
    return stac_api


def orbits(scores, image):
    return [scene.split("_")[4][1:] for scene in scores.loc[scores["image_id"] == image, "scene_id"]]


def test_the_best_scene_is_near_in_time_clear_and_covers_the_footprint(api, footprints, tmp_path) -> None:
    catalog = StacCatalog(CDSE, url=api.url, pause=0)
    scores = match(footprints, catalog, StoreLocation(str(tmp_path / "matches")), catalog_name="cdse")
    for image in TIMES:
        assert orbits(scores, image) == ["001", "003", "002", "004"]
        rows = scores[scores["image_id"] == image]
        assert rows["score"].tolist()[:3] == pytest.approx([0.16 + 0.25, 3.61, 3.45**2], abs=1e-3)
        assert rows["verdict"].tolist() == ["accepted"] * 3 + ["too little overlap"]
        assert rows["overlap"].tolist()[:3] == pytest.approx([1, 1, 1])
        assert 0.2 < rows["overlap"].iloc[3] < 0.7
        assert rows["days"].tolist() == pytest.approx([1, 0, 6.9, 0], abs=1e-4)
        assert rows["best"].tolist() == [True, False, False, False]
    assert {image: scene.split("_")[4] for image, scene in best_matches(scores).items()} == dict.fromkeys(TIMES, "R001")
    assert unmatched(footprints, scores) == []
    kept = read_scores(StoreLocation(str(tmp_path / "matches")))
    assert kept.equals(scores.sort_values(["image_id", "score"], ignore_index=True))


def test_answers_are_kept_and_limits_can_change_without_asking(api, footprints, tmp_path) -> None:
    cache = StoreLocation(str(tmp_path / "matches"))
    catalog = StacCatalog(CDSE, url=api.url, pause=0)
    first = match(footprints, catalog, cache, catalog_name="cdse")
    asked = catalog.requests
    assert asked >= 2
    gone = StacCatalog(CDSE, url="http://127.0.0.1:9/", pause=0)
    again = match(footprints, gone, cache, catalog_name="cdse")
    assert again.equals(first)
    assert gone.requests == 0
    low = match(footprints, gone, cache, MatchParameters(min_overlap=0.2), catalog_name="cdse")
    assert (low["verdict"] == "accepted").all()
    # Another question is asked, and so is the same one of another catalog, or when it is to be asked again.
    match(footprints, catalog, cache, MatchParameters(days=3), catalog_name="cdse")
    assert catalog.requests > asked
    (cache.path / f"{SCENE}.json").write_text("{")
    asked = catalog.requests
    match(footprints, catalog, cache, MatchParameters(days=3), catalog_name="cdse")
    assert catalog.requests > asked, "what is damaged is asked for again"
    assert match(footprints, catalog, cache, catalog_name="cdse", refresh=True).equals(first)


def test_images_without_a_match_are_named(api, footprints, tmp_path) -> None:
    elsewhere = footprints.set_geometry(footprints.translate(0, -20))
    catalog = StacCatalog(CDSE, url=api.url, pause=0)
    scores = match(elsewhere, catalog, StoreLocation(str(tmp_path)), catalog_name="cdse")
    assert scores.empty
    assert unmatched(elsewhere, scores) == sorted(TIMES)


def test_unknown_clouds_and_strange_footprints_are_not_taken(footprints) -> None:
    shape = footprints.geometry.iloc[0]
    box = shapely.geometry.mapping(scale(shapely.box(*shape.bounds), 2, 2))
    time = dt.datetime(2020, 8, 14, tzinfo=dt.UTC)
    scenes = [
        {"id": "a", "datetime": "2020-08-14T00:00:00Z", "cloud_cover": None, "geometry": box},
        {"id": "b", "datetime": "2020-08-14T00:00:00Z", "cloud_cover": 1.0, "geometry": None},
        {"id": "c", "datetime": "2020-08-22T00:00:00Z", "cloud_cover": 1.0, "geometry": box},
        {"id": "d", "datetime": "2020-08-14T00:00:00Z", "cloud_cover": 11.0, "geometry": box},
    ]
    table = score("image", shape, time, scenes, MatchParameters()).set_index("scene_id")
    assert table["verdict"].to_dict() == {
        "a": "clouds unknown", "b": "too little overlap", "c": "too long ago or after", "d": "too many clouds",
    }  # fmt: skip
    assert not table["best"].any()
    assert np.isnan(table.loc["a", "score"])


def test_a_footprint_across_the_antimeridian(tmp_path) -> None:
    """As tools write it that know no antimeridian: it seems to span the globe."""
    torn = shapely.Polygon([(179.8, 68), (-179.9, 68), (-179.9, 68.2), (179.8, 68.2)])
    asked: list[Selection] = []

    class Catalog:
        def search(self, selection: Selection, progress: Any = None, unknown: Any = None) -> Iterator[dict[str, Any]]:
            asked.append(selection)
            box = shapely.MultiPolygon([shapely.box(179, 67, 180, 69), shapely.box(-180, 67, -179, 69)])
            return iter(
                [item("001", TIMES[SCENE], 0.0, box), item("002", TIMES[SCENE], 0.0, shapely.box(179, 67, 180, 69))]
            )

    footprints = gpd.GeoDataFrame({"image_id": [SCENE]}, geometry=[torn], crs="EPSG:4326")
    scores = match(footprints, Catalog(), StoreLocation(str(tmp_path)), catalog_name="made")
    assert scores["overlap"].tolist() == pytest.approx([1, 2 / 3], abs=0.01)
    assert asked[0].area is not None
    assert asked[0].area.area == pytest.approx(0.3 * 0.2)


def test_the_time_of_an_image_is_that_of_its_id() -> None:
    assert {image: image_time(image) for image in TIMES} == TIMES
    with pytest.raises(TrainingError, match="not a Planet image id"):
        image_time("4694518_0870514_2021-07-15_106")
