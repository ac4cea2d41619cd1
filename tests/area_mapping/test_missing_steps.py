"""What is missing, by partition status."""

from pathlib import Path

import dagster as dg
import pytest

from darts_assets.area_mapping.missing_steps import missing_steps, steps_through
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.partitions import SENTINEL2, STEPS
from darts_assets.stores.location import StoreLocation

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run(instance: dg.DagsterInstance, scene: str, *steps: str, failing: str | None = None) -> None:
    """Materialize steps of a scene by assets that do nothing; one may fail."""

    def asset(step: str) -> dg.AssetsDefinition:
        @dg.asset(key=SENTINEL2.key(step), partitions_def=SENTINEL2.partitions)
        def nothing() -> None:
            if step == failing:
                raise dg.Failure("it fails")

        return nothing

    dg.materialize(
        [asset(step) for step in steps], instance=instance, partition_key=scene, raise_on_error=False, run_config=QUIET
    )


@pytest.fixture
def root(tmp_path: Path) -> StoreLocation:
    return StoreLocation(str(tmp_path))


def test_missing_and_failed_steps_and_those_after_them(root: StoreLocation) -> None:
    scenes = ["new", "finished", "half", "failed", "again"]
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("sentinel2_scene", scenes)
        run(instance, "finished", *STEPS)
        run(instance, "half", "raw_scene", "auxiliary", "preprocessed_tile")
        run(instance, "failed", "raw_scene", "auxiliary", failing="auxiliary")
        run(instance, "again", *STEPS)
        run(instance, "again", "segmentation", failing="segmentation")
        assert missing_steps(instance, root, SENTINEL2, scenes, STEPS) == {
            "new": STEPS,
            "half": ("segmentation", "polygons", "products"),
            "failed": STEPS[1:],
            "again": ("segmentation", "polygons", "products"),
        }
        assert missing_steps(instance, root, SENTINEL2, ["half", "new"], STEPS[:3]) == {"new": STEPS[:3]}


def test_released_steps_run_again_if_a_later_step_needs_them(
    root: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = {"polygons": ["raw_scene", "preprocessed_tile"], "products": ["raw_scene", "preprocessed_tile"]}
    module = "darts_assets.area_mapping.missing_steps.released_inputs"
    monkeypatch.setattr(module, lambda root, family, scene, step: released.get(step, []))
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("sentinel2_scene", ["a", "new"])
        run(instance, "a", *STEPS[:4])
        assert missing_steps(instance, root, SENTINEL2, ["a", "new"], STEPS) == {
            "a": ("raw_scene", "preprocessed_tile", "polygons", "products"),
            "new": STEPS,
        }


def test_steps_through() -> None:
    assert steps_through("preprocessed_tile") == ("raw_scene", "auxiliary", "preprocessed_tile")
    assert steps_through("products") == STEPS
    with pytest.raises(SettingsError, match="'segment' is not a step; expected one of raw_scene, auxiliary, "):
        steps_through("segment")
