"""Verdicts as labels: slumps, hard negatives, and everything that nobody has judged for certain is ignored."""

import geopandas as gpd
import numpy as np
import pytest
import shapely

from darts_assets.stores.publish import Place
from darts_assets.training.reviewed_labels import lacks_verdicts, reviewed_labels
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import Origin, get_table, write_sample

from .conftest import GRID, pixels

PARAMETERS = PatchParameters(bands=["red"], patch_size=100, overlap=0, min_visible=1e-6)


def judged(*rows: tuple[shapely.Polygon, str, int]) -> gpd.GeoDataFrame:
    table = gpd.GeoDataFrame(
        {
            "site_id": [f"site {number}" for number in range(len(rows))],
            "year": [year for _, _, year in rows],
            "verdict": [verdict for _, verdict, _ in rows],
        },
        geometry=[shape for shape, _, _ in rows],
        crs=GRID.crs.to_epsg(),
    )
    return table.to_crs(6931)


EXTENT = gpd.GeoSeries([GRID.extent.geom], crs="EPSG:32608")


def classes(tile, store, sites: gpd.GeoDataFrame, margin: float = 50) -> np.ndarray:
    """The labels of the first patch."""
    import zarr

    reviewed = reviewed_labels(sites, 2023, EXTENT, margin)
    place = store.sample("scene")
    record = write_sample(
        place, tile, reviewed.labels, reviewed.area, Origin("scene", "08W", "scene"), PARAMETERS, "sentinel2"
    )
    if not record.patches:
        return np.empty((0, 0))
    return zarr.open_group(str(place.location.path / record.version / "data.zarr"))["y"][0]


def test_each_verdict_has_its_class_and_only_judged_places_are_labelled(tile, store) -> None:
    yes, no = pixels(slice(10, 20), slice(10, 20)), pixels(slice(60, 70), slice(10, 20))
    y = classes(tile, store, judged((yes, "yes", 2023), (no, "no", 2023)))
    assert (y[11:19, 11:19] == 1).all()  # outlines are reprojected: their edges may differ by a pixel
    assert (y[61:69, 11:19] == 0).all()
    assert (y[12:18, 21:24] == 0).all()  # the margin
    assert (y[62:68, 21:24] == 0).all()
    assert (y[30:50] == 2).all()
    assert (y[:, 30:] == 2).all()
    assert (y == 1).sum() == pytest.approx(100, abs=25)


def test_sites_without_a_certain_verdict_are_ignored_also_in_the_margin(tile, store) -> None:
    rows = [(pixels(slice(10, 20), slice(10, 20)), "yes", 2023)]
    for number, verdict in enumerate(("unsure", "redraw", "")):
        rows.append((pixels(slice(8 + 5 * number, 11 + 5 * number), slice(22, 25)), verdict, 2023))
    y = classes(tile, store, judged(*rows))
    assert (y[11:19, 11:19] == 1).all()
    for row in (9, 14, 19):
        assert y[row, 23] == 2
    assert y[12, 23] == 0
    # The judged sites of other years, and those of other places, are not the scene's.
    nothing = judged(
        (pixels(slice(10, 20), slice(10, 20)), "yes", 2022), (pixels(slice(900, 910), slice(0, 9)), "no", 2023)
    )
    assert classes(tile, store, nothing).size == 0


def test_a_place_that_is_no_longer_judged_has_no_patches_and_the_table_lists_what_was_used(tile, store) -> None:
    place = pixels(slice(10, 20), slice(10, 20))
    assert classes(tile, store, judged((place, "no", 2023))).size
    manifest = store.sample("scene").require()
    labels = get_table(store.sample("scene").location.child(manifest.contents["labels.parquet"]), "labels.parquet")
    assert labels[["label", "label_id", "verdict"]].to_numpy().tolist() == [[0, "site 0", "no"]]
    assert classes(tile, store, judged((place, "unsure", 2023))).size == 0
    record = Place(store.sample("scene").location).require().metadata["sample"]
    assert (record["patches"], record["dropped"]) == (0, {"few visible": 2})


def test_a_table_of_an_earlier_version_has_no_verdicts() -> None:
    table = judged((pixels(slice(10, 20), slice(10, 20)), "no", 2023))
    assert not lacks_verdicts(table)
    assert lacks_verdicts(table.drop(columns="verdict"))
