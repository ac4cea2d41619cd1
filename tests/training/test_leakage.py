"""Ground and pixels that patches share."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

from darts_assets.errors import TrainingError
from darts_assets.stores.publish import Place
from darts_assets.training.leakage import duplicates, ground_of, joined, patch_side
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import Origin, content_of, get_table, put_table, write_sample

from .conftest import make_tile, outlines

SIDE = 640.0


def boxes(*corners: tuple[float, float]) -> pd.DataFrame:
    shapes = gpd.GeoSeries([shapely.box(x, y, x + SIDE, y + SIDE) for x, y in corners], crs="EPSG:32608")
    return pd.DataFrame({"geometry": shapes.translate(500_000, 7_600_000).to_crs("EPSG:4326")})


def test_the_side_of_patches_is_in_metres() -> None:
    ground = ground_of(boxes((0, 0), (SIDE, 0)))
    assert ground is not None
    assert patch_side(ground) == pytest.approx(SIDE, rel=0.005)
    table = boxes((0, 0), (SIDE, 0))
    written = pd.DataFrame({"geometry": table["geometry"].map(shapely.to_wkb)})
    again = ground_of(written)
    assert again is not None
    assert shapely.equals(again, ground).all()
    assert ground_of(pd.DataFrame({"sample_id": ["a"]})) is None


@pytest.mark.parametrize(
    ("distance", "groups"),
    [(0, {"a", "b + c", "d"}), (100, {"a + b + c", "d"}), (2000, {"a + b + c + d"})],
)
def test_units_within_a_distance_are_one_group(distance: float, groups: set[str]) -> None:
    ground = ground_of(boxes((0, 0), (SIDE, 0), (2 * SIDE - 50, 0), (4 * SIDE, 0)))
    assert ground is not None
    assert set(joined(["a", "b", "c", "d"], ground, distance).values()) == groups


def test_patches_of_one_value_are_no_copies() -> None:
    flat, textured = np.full((3, 8, 8), 0.5, np.float32), np.random.default_rng(0).random((3, 8, 8), np.float32)
    assert content_of(flat) == ""
    assert content_of(textured) == content_of(textured.copy()) != content_of(textured + 1)
    rows = pd.DataFrame({"sample_id": ["a", "b", "a", "b", "c"], "content": ["", "", "x", "x", "y"]})
    assert duplicates(rows) == ["a and b have 1 patches with the same pixels"]


def test_a_set_with_a_copy_of_an_image_is_refused(store) -> None:
    parameters = PatchParameters(patch_size=64, overlap=16)
    for name in ("image", "copy"):
        write_sample(store.sample(name), make_tile(), outlines(), None, Origin(name, "Peel"), parameters, "sentinel2")
    with pytest.raises(TrainingError, match=r"copy and image have 6 patches with the same pixels.*leave out one image"):
        store.assemble()
    assert store.assemble(["image"]).patches == 6


def test_samples_of_earlier_releases_are_compared_too(store) -> None:
    """Their tables have neither hashes nor positions on the grid."""
    parameters = PatchParameters(patch_size=64, overlap=16)
    for name in ("image", "copy"):
        write_sample(store.sample(name), make_tile(), outlines(), None, Origin(name, "Peel"), parameters, "sentinel2")
    old: Place = store.sample("copy")
    folder = old.location.child(old.require().contents["patches.parquet"])
    put_table(
        folder,
        "patches.parquet",
        get_table(folder, "patches.parquet").drop(columns=["content", "grid_row", "grid_col"]),
    )
    with pytest.raises(TrainingError, match="copy and image have 6 patches"):
        store.assemble()
    assert store.assemble(["copy"]).patches == 6
    assert get_table(store.current, "metadata.parquet")["content"].str.len().eq(16).all()
