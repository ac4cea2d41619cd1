"""The bad-input table of the product, row by row, as far as the chain of one scene meets it."""

import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import rasterio
import rasterio.warp

from darts_assets.demo import World
from darts_assets.errors import SceneError
from tests.e2e.harness import Site, reason


def band_file(item: Path, band: str) -> Path:
    (path,) = item.parent.rglob(f"*_{band}_*.tif")
    return path


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], **profile) -> None:
    with rasterio.open(path) as source:
        values, old = source.read(), source.profile
    values = change(values)
    # One block for all: a rewritten file keeps no overviews, which only matter for a remote one.
    with rasterio.open(path, "w", **{**old, "dtype": values.dtype, **profile}) as target:
        target.write(values)


# --- unknown scene id, tile id or malformed id -----------------------------------------------------------------------


def test_malformed_ids_are_refused_before_anything_is_registered(site: Site, world: World, tmp_path: Path) -> None:
    item = json.loads(world.items[0].read_text())
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(item | {"id": "../../etc/passwd"}))
    with pytest.raises(SceneError, match=r"\.\./\.\./etc/passwd"):
        site.register(world.items[0], wrong)
    assert site.instance.get_dynamic_partitions("sentinel2_scene") == []


def test_an_unknown_scene_is_refused_by_dagster_and_the_others_go_on(site: Site, world: World) -> None:
    (scene,) = site.register(world.items[0])
    with pytest.raises(dg.DagsterUnknownPartitionError, match="S2A_unknown"):
        site.run("S2A_unknown", "raw_scene")
    assert site.run(scene, "raw_scene").success


def test_a_partition_without_an_item_says_how_to_register(site: Site) -> None:
    site.instance.add_dynamic_partitions("sentinel2_scene", ["S2A_by_hand"])
    said = reason(site.run("S2A_by_hand", "raw_scene"))
    assert "S2A_by_hand" in said
    assert "darts-assets register" in said


# --- service down, truncated download (the sources' own tests know 429 and 5xx) ---------------------------------------


def test_a_source_that_does_not_answer_is_retried_then_fails_with_its_words(
    site: Site, copied_item: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from darts_assets.errors import SourceUnavailableError
    from darts_assets.orchestration.core import error_handling
    from darts_assets.sources import STAC_SCENES

    monkeypatch.setattr(error_handling, "SOURCE_RETRY_SECONDS", 0)
    calls = []

    def unavailable(*_args, **_kwargs):
        calls.append(1)
        raise SourceUnavailableError("eodata: 503 Slow Down")

    monkeypatch.setattr(type(STAC_SCENES), "fetch", unavailable)
    (scene,) = site.register(copied_item())
    result = site.run(scene, "raw_scene")
    assert not result.success
    assert len(calls) == 1 + error_handling.MAX_SOURCE_RETRIES
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "503 Slow Down" in str(failure.step_failure_data.error)
    assert site.place("raw", "cdse", scene).manifest() is None


# --- corrupt raster, wrong dtype, missing band, wrong CRS, several CRSs -----------------------------------------------


def truncate(item: Path) -> None:
    path = band_file(item, "B08")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def as_float(item: Path) -> None:
    rewrite(band_file(item, "B08"), lambda values: values.astype("float32"))


def remove(item: Path) -> None:
    band_file(item, "B08").unlink()


def other_zone(item: Path) -> None:
    rewrite(band_file(item, "B08"), lambda values: values, crs="EPSG:32609")


@pytest.mark.parametrize("damage", [truncate, as_float, remove, other_zone])
def test_a_bad_file_fails_its_scene_by_name_and_the_others_go_on(
    site: Site, world: World, copied_item: Callable[..., Path], damage: Callable[[Path], None]
) -> None:
    item = copied_item("S2A_damaged")
    damage(item)
    bad, good = site.register(item, world.items[0])
    said = reason(site.run(bad))
    assert "B08_10m.tif" in said
    assert "nir" in said
    assert site.place("raw", "cdse", bad).manifest() is None
    assert site.run(good, "raw_scene").success
    assert site.materialized("raw_scene") == {good}


def test_an_item_without_a_band_or_of_several_crss_is_refused(site: Site, world: World, tmp_path: Path) -> None:
    item = json.loads(world.items[0].read_text())
    assets = dict(item["assets"])
    without, mixed = tmp_path / "without.json", tmp_path / "mixed.json"
    without.write_text(json.dumps(item | {"assets": {k: v for k, v in assets.items() if k != "B04_10m"}}))
    mixed.write_text(
        json.dumps(item | {"assets": assets | {"B04_10m": assets["B04_10m"] | {"proj:code": "EPSG:32607"}}})
    )
    with pytest.raises(SceneError, match="red"):
        site.register(without)
    with pytest.raises(SceneError, match="EPSG:32607"):
        site.register(mixed)


# --- scene fully clouded or all no-data -------------------------------------------------------------------------------


@pytest.mark.parametrize(("scl", "words"), [(9, "clouds"), (0, "no pixel of the scene has data")])
def test_nothing_to_see_succeeds_with_empty_polygons_and_says_why(
    site: Site, copied_item: Callable[..., Path], scl: int, words: str
) -> None:
    item = copied_item("S2A_nothing_to_see")
    rewrite(band_file(item, "SCL"), lambda values: np.full_like(values, scl))
    (scene,) = site.register(item)
    # Clouds are "low" quality, which counts by default: a scientist who wants them out asks for high quality.
    result = site.run(scene, polygons={"quality_level": "high"})
    assert result.success
    vectors = site.load("polygons", scene)
    assert len(vectors["segments"]) == len(vectors["extent"]) == 0
    assert {"Region_ID", "touches_edge", "mean", "npixel"} <= set(vectors["segments"].columns)
    (check,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "scene_was_seen"]
    assert not check.passed
    assert words in (check.description or "")
    assert site.materialized("products") == {scene}


# --- DEM or TCVIS hole ------------------------------------------------------------------------------------------------


def test_a_hole_in_the_dem_is_empty_there_and_the_check_says_how_much(
    new_site: Callable[..., Site], world: World, tmp_path: Path
) -> None:
    arcticdem = tmp_path / "arcticdem"
    shutil.copytree(world.arcticdem.parent, arcticdem)
    site = new_site(arcticdem=str(arcticdem / "catalog.json"))
    (scene,) = site.register(world.items[0])
    with rasterio.open(band_file(world.items[0], "B02")) as blue:
        bounds = rasterio.warp.transform_bounds(blue.crs, "EPSG:3413", *blue.bounds)
    middle = (bounds[0] + bounds[2]) / 2

    for path in arcticdem.rglob("*_dem.tif"):
        with rasterio.open(path) as source:
            column = int((middle - source.transform.c) / source.transform.a)

        def west_gone(values: np.ndarray, column: int = column) -> np.ndarray:
            values[:, :, : max(column, 0)] = -9999
            return values

        rewrite(path, west_gone)
    result = site.run(scene)
    assert result.success
    slope = site.load("preprocessed_tile", scene)["slope"].values
    lost = float(np.isnan(slope).mean())
    assert 0.2 < lost < 0.8
    (check,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "auxiliary_coverage"]
    assert not check.passed
    said = check.metadata["missing_fraction"].value["arcticdem"]
    assert said == pytest.approx(lost, abs=0.05)
    assert f"{100 * said:.3g} %" in (check.description or "")


# --- checkpoint missing, not a checkpoint, unknown architecture, wrong number of bands, malicious pickle --------------


class _Malice:
    def __reduce__(self):
        import os

        return os.system, ("touch pwned",)


def malicious(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"config": _Malice(), "statedict": {}}))


def checkpoint_of(path: Path, arch: str, channels: int) -> None:
    config = {"model": {"arch": arch, "in_channels": channels, "classes": 1}, "bands": ["red", "nir"]}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"config": config, "statedict": {}}))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        lambda path: path.write_bytes(b"no checkpoint"),
        lambda path: checkpoint_of(path, "slumpnet", 2),
        lambda path: checkpoint_of(path, "unet", 3),
        malicious,
    ],
    ids=["missing", "not a checkpoint", "unknown architecture", "wrong number of bands", "malicious"],
)
def test_a_bad_checkpoint_is_refused_before_any_scene_is_loaded(
    new_site: Callable[..., Site], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], object],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    checkpoint = tmp_path / "bad.ckpt"
    make(checkpoint)
    site = new_site(models=(str(checkpoint),))
    (scene,) = site.register(world.items[0])
    result = site.run(scene)
    assert "bad.ckpt" in reason(result)
    assert "CheckpointError" in reason(result)
    assert site.materialized("raw_scene") == set()
    assert site.place("raw", "cdse", scene).manifest() is None
    assert not (tmp_path / "pwned").exists()


# --- disk full --------------------------------------------------------------------------------------------------------

FULL_DISK = """
import resource, signal, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {here!r})
import dagster as dg
from pathlib import Path
from darts_assets.settings import Settings
from tests.e2e.harness import Site
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
site = Site(Path({folder!r}), Settings(store={store!r}), dg.DagsterInstance.ephemeral())
(scene,) = site.register({item!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))
result = site.run(scene, "raw_scene")
print("SUCCESS" if result.success else "FAILED")
"""


def test_a_full_disk_leaves_nothing_readable_and_the_next_run_heals(site: Site, world: World) -> None:
    """No file may grow beyond 30 kB, so that every chunk of pixels fails as on a full disk."""
    script = FULL_DISK.format(
        here=str(Path(__file__).parents[2]),
        folder=str(site.folder),
        store=site.settings.store,
        item=str(world.items[0]),
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["FAILED"], done.stderr[-2000:]
    (scene,) = site.register(world.items[0])
    place = site.place("raw", "cdse", scene)
    assert place.manifest() is None
    assert site.run(scene, "raw_scene").success
    assert [path.name for path in place.location.path.iterdir() if path.is_dir()] == [
        next(iter(set(place.require().contents.values())))
    ]
