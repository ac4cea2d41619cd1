"""How the inventory stands in the graph: by year, beside the chains, brought up to date every night by who wants it."""

import datetime as dt

import dagster as dg

from darts_assets.definitions import build_defs
from darts_assets.orchestration.inventory.assets import RTS, SLUMPS, YEARS
from darts_assets.orchestration.inventory.chips_asset import CHIPS
from darts_assets.orchestration.inventory.review_report import REVIEW_REPORT
from darts_assets.settings import Settings


def test_there_is_a_partition_for_each_year_up_to_the_present_one() -> None:
    noon = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
    assert YEARS.get_partition_keys(current_time=noon) == [str(year) for year in range(2014, 2027)]


def test_the_job_updates_a_year_and_follows_slumps_but_no_scene_does() -> None:
    defs = build_defs(Settings())
    job = defs.resolve_job_def("update_inventory")
    assert set(job.asset_layer.selected_asset_keys) == {RTS, SLUMPS, CHIPS, REVIEW_REPORT}
    assert {node.definition.pool for node in job.graph.nodes} == {"inventory"}
    graph = defs.resolve_asset_graph()
    assert dg.AssetSelection.from_string('group:"inventory"').resolve(graph) == {RTS, SLUMPS, CHIPS, REVIEW_REPORT}
    for family in ("sentinel2", "planet"):
        assert RTS not in dg.AssetSelection.from_string(f'group:"{family}"').resolve(graph)


def test_the_schedule_updates_the_present_year_and_is_off_at_first() -> None:
    defs = build_defs(Settings())
    schedule = defs.resolve_schedule_def("update_inventory_nightly")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    night = dt.datetime(2026, 7, 1, 4, tzinfo=dt.UTC)
    context = dg.build_schedule_context(scheduled_execution_time=night, repository_def=defs.get_repository_def())
    (request,) = schedule.evaluate_tick(context).run_requests
    assert (request.partition_key, request.run_key) == ("2026", "2026-07-01")
