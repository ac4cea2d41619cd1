"""What a set is on disk, how it grows, and what is left of it when its writer is killed."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import geopandas as gpd
import numpy as np
import obstore
import pandas as pd
import pytest
import zarr

from darts_assets.bands import FEATURES
from darts_assets.errors import NotReadableError, TrainingError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place, Retention
from darts_assets.training.patches import cut
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import Origin, get_table, write_sample
from darts_assets.training.set_store import TrainingSetStore
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

from .conftest import make_tile, outlines, pixels

SMALL = PatchParameters(patch_size=64, overlap=16)
SLUMP = outlines(pixels(slice(10, 20), slice(50, 60)))


def add(store: TrainingSetStore, image: str, seed: int = 0, **more):
    origin = Origin(image, more.pop("region", "Peel"), inputs=str(seed), facts={"note": f"n{seed}"})
    parameters = more.pop("parameters", SMALL)
    labels = more.pop("labels", SLUMP)
    return write_sample(store.sample(image), make_tile(seed=seed), labels, None, origin, parameters, "sentinel2")


def read(folder: Path) -> tuple[np.ndarray, np.ndarray, gpd.GeoDataFrame, dict]:
    group = zarr.open_group(folder / "data.zarr", mode="r")
    config = tomllib.loads((folder / "config.toml").read_text())
    return group["x"][:], group["y"][:], gpd.read_parquet(folder / "metadata.parquet"), config


def test_a_set_holds_the_patches_of_its_images_in_order(store) -> None:
    add(store, "b-image", seed=2, region="Yukon")
    add(store, "a-image", seed=1)
    summary = store.assemble()
    assert summary.samples == {"a-image": 6, "b-image": 6}
    assert (summary.patches, summary.positive) == (12, 4)
    x, y, table, config = read(store.current.path)
    expected = [p for seed in (1, 2) for p in cut(make_tile(seed=seed), SLUMP, None, SMALL)]
    np.testing.assert_array_equal(x, [p.x for p in expected])
    np.testing.assert_array_equal(y, [p.y for p in expected])
    assert list(table["sample_id"]) == ["a-image"] * 6 + ["b-image"] * 6
    assert list(table["region"]) == ["Peel"] * 6 + ["Yukon"] * 6
    assert list(zip(table["row"], table["col"], strict=True)) == [(p.row, p.col) for p in expected]
    assert list(table["empty"]) == [p.empty for p in expected]
    assert list(table["note"]) == ["n1"] * 6 + ["n2"] * 6
    assert table.crs == "EPSG:4326"
    assert table.geometry.iloc[0].equals(expected[0].geometry)
    assert config["bands"] == list(FEATURES)
    assert (config["patch_size"], config["overlap"], config["terrain"]) == (64, 16, "darts-2026")
    assert config["filters"] == {"min_visible": 0.1, "exclude_nan": True, "exclude_nopositive": False}
    assert (config["flavour"], config["patches"]) == ("sentinel2", 12)
    assert config["valid_ranges"]["red"] == [-0.1, 0.5]
    array = zarr.open_group(store.current.path / "data.zarr", mode="r")["x"]
    assert array.chunks == (1, 13, 64, 64)
    assert len(list((store.current.path / "data.zarr" / "x" / "c").iterdir())) == 12


def test_appending_keeps_what_is_there_and_makes_no_second_copy(store) -> None:
    first = add(store, "a-image", seed=1)
    one = store.assemble()
    add(store, "b-image", seed=2)
    assert add(store, "a-image", seed=1) == first, "the same is not made again"
    two = store.assemble(tables={"matches": pd.DataFrame({"scene_id": ["s"], "score": [0.4]})})
    assert pd.read_parquet(two.location.path / "matches.parquet")["score"].tolist() == [0.4]
    assert (one.patches, two.patches) == (6, 12)
    assert one.data_hash != two.data_hash
    assert one.location.path.exists(), "a training that reads the replaced set can finish"
    assert Place(store.place.location, Retention(timedelta(0))).collect() == 1
    assert not one.location.path.exists()
    chunk = two.location.path / "data.zarr" / "x" / "c" / "7" / "0" / "0" / "0"
    assert chunk.stat().st_nlink == 2
    assert store.assemble().data_hash == two.data_hash


def test_other_labels_or_another_tile_make_a_sample_again(store) -> None:
    first = add(store, "a-image", seed=1)
    other_tile = add(store, "a-image", seed=2)
    other_labels = add(store, "a-image", seed=2, labels=outlines())
    assert len({r.fingerprint for r in (first, other_tile, other_labels)}) == 3
    assert store.assemble().positive == 0


def test_an_image_without_patches_is_published_and_leaves_no_rows(store) -> None:
    nothing = add(
        store, "a-image", labels=outlines(), parameters=PatchParameters(patch_size=64, exclude_nopositive=True)
    )
    assert (nothing.patches, nothing.dropped) == (0, {"no slump": 6})
    with pytest.raises(TrainingError, match=r"1 samples have no patches \(6 no slump\)"):
        store.assemble()
    add(store, "b-image", parameters=PatchParameters(patch_size=64, exclude_nopositive=True))
    assert store.assemble().samples == {"a-image": 0, "b-image": 2}
    assert len(read(store.current.path)[0]) == 2


def test_samples_that_do_not_belong_together_are_refused(store) -> None:
    add(store, "a-image")
    add(store, "b-image", parameters=PatchParameters(patch_size=32, overlap=0))
    with pytest.raises(TrainingError, match="patch_size: 64 and 32"):
        store.assemble()
    with pytest.raises(TrainingError, match="no samples of 'c-image'"):
        store.assemble(["a-image", "c-image"])
    with pytest.raises(NotReadableError, match="nothing has been published"):
        _ = store.current


def test_a_lost_chunk_is_found_before_the_set_is_published(store) -> None:
    record = add(store, "a-image")
    folder = store.sample("a-image").location.child(record.version).path
    (folder / "data.zarr" / "y" / "c" / "3" / "0" / "0").unlink()
    with pytest.raises(TrainingError, match="patches of a-image are missing"):
        store.assemble()
    assert store.place.manifest() is None


def lengths(store: TrainingSetStore) -> set[int]:
    """Of arrays and tables, as any reader sees them."""
    x, y, table, config = read(store.current.path)
    return {len(x), len(y), len(table), config["patches"], 6 * table["sample_id"].nunique()}


@pytest.mark.slow
def test_a_killed_writer_leaves_arrays_and_tables_of_one_length_and_can_go_on(tmp_path) -> None:
    location = StoreLocation(str(tmp_path / "set"))
    store = TrainingSetStore(location)
    script = Path(__file__).with_name("growing.py")
    seen, unfinished = [], 0
    # Killed at other moments each time; whatever it was doing, what is published fits together.
    for pause in (0.02, 0.05, 0.0, 0.08):
        writer = subprocess.Popen([sys.executable, str(script), location.url], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(2):
            writer.stdout.readline()
        time.sleep(pause)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        pointers = [json.loads(pointer.read_bytes()) for pointer in location.path.rglob("current.json")]
        unfinished += sum(pointer["writer"] is not None for pointer in pointers)
        (length,) = lengths(store)
        seen.append(length)
    assert unfinished > 0, "kills fell into writes"
    assert seen == sorted(seen)
    assert seen[-1] > seen[0], "each run went on where the one before was killed"
    add(store, "image-99", seed=99)
    (length,) = lengths(store) if store.assemble() else ()
    assert length == 6 * len(store.sample_ids())
    left, manifest = {p.name for p in (location.path / "set").iterdir() if p.is_dir()}, store.place.require()
    assert left == manifest.versions | manifest.replaced.keys(), "what the killed ones left behind is removed"


@pytest.fixture
def remote(tmp_path, monkeypatch) -> Iterator[TrainingSetStore]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield TrainingSetStore(server.location("training", "demo"))
    server.stop()


def test_a_set_on_s3_is_the_same(store, remote) -> None:
    for place in (store, remote):
        add(place, "a-image", seed=1)
        add(place, "b-image", seed=2)
    here, there = store.assemble(), remote.assemble()
    assert here.data_hash == there.data_hash
    assert remote.sample_ids() == ["a-image", "b-image"]
    keys = set(there.location.keys())
    assert keys == set(here.location.keys())
    for key in keys - {"metadata.parquet", "labels.parquet"}:
        contents = [bytes(obstore.get(place.location.objects(), key).bytes()) for place in (here, there)]
        assert contents[0] == contents[1], key
    tables = [get_table(place.location, "metadata.parquet") for place in (here, there)]
    assert tables[0].equals(tables[1])


def test_a_lost_chunk_of_a_set_is_not_read_as_zeros(store) -> None:
    """As when a set is assembled again while a model learns from it."""
    from darts_assets.training.fit.training_set import TrainingSet

    add(store, "a-image")
    data = TrainingSet.open(store.assemble().location)
    data.patch(0)
    (store.current.path / "data.zarr" / "x" / "c" / "1" / "0" / "0" / "0").unlink()
    with pytest.raises(NotReadableError, match="x/c/1/0/0/0 is missing"):
        data.patch(1)
