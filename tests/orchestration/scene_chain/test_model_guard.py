"""Without `DARTS_MODELS`, steps refuse scenes outside of a demo if the same run or backfill segments them."""

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill

from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.resources import Models, Store
from darts_assets.orchestration.scene_chain.model_guard import check_models

FIRST, LAST = SENTINEL2.key("raw_scene"), SENTINEL2.key("segmentation")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """Runs some of two steps of a chain; returns the reason of their failure, "" if there is none."""

    @dg.asset(key=FIRST)
    def first(context: dg.AssetExecutionContext, models: Models) -> None:
        try:
            check_models(context, SENTINEL2, models)
        except SettingsError as error:
            raise dg.Failure(str(error), allow_retries=False) from error

    @dg.asset(key=LAST, deps=[FIRST])
    def last() -> None:
        pass

    def run(
        *steps: dg.AssetKey,
        checkpoints: list[str] | None = None,
        folder: str = "data",
        backfill: list[dg.AssetKey] | None = None,
    ) -> str:
        models = Models(store=Store(url=str(tmp_path / folder / "store")), checkpoints=checkpoints or [])
        with dg.DagsterInstance.ephemeral() as instance:
            tags = {}
            if backfill:
                tags = {"dagster/backfill": "abc"}
                instance.add_backfill(
                    PartitionBackfill(
                        backfill_id="abc",
                        status=BulkActionStatus.REQUESTED,
                        from_failure=False,
                        tags={},
                        backfill_timestamp=0.0,
                        asset_selection=backfill,
                        serialized_asset_backfill_data="",
                    )
                )
            result = dg.materialize(
                [first, last], selection=list(steps), instance=instance, tags=tags, raise_on_error=False,
                resources={"models": models},
            )  # fmt: skip
        failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        return str(failures[0].user_failure_data.description) if failures else ""

    return run


def test_a_chain_fails_before_any_work_and_the_sentence_has_the_setting(run: Callable[..., str]) -> None:
    assert run(FIRST, LAST).startswith("DARTS_MODELS is not set: the included demo model segments only scenes in")


def test_so_does_the_first_run_of_a_backfill_of_a_chain(run: Callable[..., str]) -> None:
    assert run(FIRST, backfill=[FIRST, LAST]).startswith("DARTS_MODELS is not set")
    assert run(FIRST, backfill=[FIRST]) == ""


def test_training_data_need_no_model(run: Callable[..., str]) -> None:
    assert run(FIRST) == ""


def test_own_models_segment_everywhere(run: Callable[..., str]) -> None:
    assert run(FIRST, LAST, checkpoints=[str(DEMO_CHECKPOINT)]) == ""


def test_a_demo_needs_no_setting(run: Callable[..., str], tmp_path: Path) -> None:
    world = tmp_path / "darts-demo" / "world"
    world.mkdir(parents=True)
    assert run(FIRST, LAST, folder="darts-demo") != ""
    (world / "world.json").write_text(json.dumps({"seed": 7}))
    assert run(FIRST, LAST, folder="darts-demo") == ""
