"""The asset `segmentation`: what its config takes, and which of it makes another version of the data."""

from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import FEATURES, VISIBLE_NIR
from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.orchestration.core.io_managers import TileIOManager
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.scene_chain.segmentation import build_segmentation
from darts_assets.stores.tiles import write_tile
from darts_assets.tiles import TileStream, on_grid

SCENE = "S2A_MSIL2A_20230615T123456_N0509_R012_T33UUP_20230615T145678"
SMALL = {"patch_size": 64, "overlap": 16}


@pytest.fixture
def materialized(tmp_path: Path) -> Callable[..., tuple[dg.ExecuteInProcessResult, xr.Dataset | None]]:
    """Segments a tile of two patches by some config; the result of the run, and the tile, if there is one."""
    store = Store(url=str(tmp_path))
    tiles = TileIOManager(store=store)
    random = np.random.default_rng(5)
    bands = {name: random.uniform(0, 0.5, (64, 100)).astype("float32") for name in FEATURES}
    box = GeoBox.from_bbox((0, 0, 1000, 640), "EPSG:32633", resolution=10)
    place = store.place("tiles", *SENTINEL2.key("preprocessed_tile").path, SCENE)
    upstream = dg.AssetSpec(SENTINEL2.key("preprocessed_tile"), partitions_def=SENTINEL2.partitions)
    key = SENTINEL2.key("segmentation")

    def run(
        models: Sequence[str] = (str(DEMO_CHECKPOINT),), offset: float = 0, **config: object
    ) -> tuple[dg.ExecuteInProcessResult, xr.Dataset | None]:
        optical = {name: bands[name] + np.float32(offset) for name in VISIBLE_NIR}
        stream = TileStream(box, FEATURES, iter([on_grid(bands | optical, box)]))
        write_tile(place, stream, metadata={"provenance": {"data_version": "one"}})
        with dg.DagsterInstance.ephemeral() as instance:
            instance.add_dynamic_partitions(SENTINEL2.partitions.name, [SCENE])
            result = dg.materialize(
                [build_segmentation(SENTINEL2), upstream],
                selection=[key],
                instance=instance,
                partition_key=SCENE,
                resources={"models": Models(store=store, checkpoints=list(models)), "store": store, "tiles": tiles},
                run_config={
                    "ops": {"sentinel2__segmentation": {"config": {**SMALL, **config}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                raise_on_error=False,
            )
        return result, tiles.read(tuple(key.path), SCENE) if result.success else None

    return run


def test_the_demo_model_segments_only_in_a_demo(
    materialized: Callable[..., tuple[dg.ExecuteInProcessResult, xr.Dataset | None]],
) -> None:
    result, _ = materialized(models=())
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert str(failure.user_failure_data.description).startswith("SettingsError: DARTS_MODELS is not set")


def test_tiles_whose_values_are_no_reflectance_are_refused(
    materialized: Callable[..., tuple[dg.ExecuteInProcessResult, xr.Dataset | None]],
) -> None:
    result, _ = materialized(offset=-0.4)
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    reason = str(failure.user_failure_data.description)
    assert reason.startswith(f"DartsError: {SCENE}: the median of blue is -0.1")
    assert "config `offset` of preprocessed_tile" in reason
    assert materialized(offset=-0.4, accept_implausible=True)[0].success


def version(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_asset_materialization_events()
    return str(event.materialization.tags["dagster/data_version"])


@pytest.mark.slow
def test_how_fast_makes_no_other_version_but_the_precision_does(materialized: Callable) -> None:
    default, tile = materialized()
    assert default.success
    expected = tile["probabilities"].values
    for same in ({"batch_size": 1}, {"batch_size": "auto"}, {"device": "cpu"}, {"precision": "fp32", "device": "cpu"}):
        result, again = materialized(**same)
        assert result.success
        assert version(result) == version(default)
        np.testing.assert_allclose(again["probabilities"], expected, atol=1.1e-4)  # a step of the codec
    for different in ({"precision": "bf16"}, {"overlap": 8}):
        result, _ = materialized(**different)
        assert result.success
        assert version(result) != version(default)


@pytest.mark.slow
def test_the_precision_is_recorded(materialized: Callable) -> None:
    (event,) = materialized()[0].get_asset_materialization_events()
    recorded = event.materialization.metadata["provenance"].value["parameters"]
    assert recorded["precision"] == "fp32"
    assert recorded.keys().isdisjoint({"batch_size", "device", "compile"})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"batch_size": "many"}, "batch_size is 'many', expected `auto` or a number of at least 1"),
        ({"batch_size": 0}, "batch_size is 0, expected `auto` or a number of at least 1"),
        ({"precision": "fp16", "device": "cpu"}, "precision fp16 needs a GPU"),
    ],
)
def test_wrong_config_is_named(materialized: Callable, config: dict[str, object], words: str) -> None:
    result, _ = materialized(**config)
    assert not result.success
    (failure,) = (event for event in result.all_events if event.event_type_value == "STEP_FAILURE")
    assert words in str(failure.event_specific_data.error)


def test_what_the_launchpad_refuses(materialized: Callable) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="fp8"):
        materialized(precision="fp8")
