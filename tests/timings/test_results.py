"""The table with one row per scene, from tables of steps."""

from typing import Any

import pandas as pd

from darts_assets.timings import RESULT_COLUMNS, results_table, steps_table


def step(run: str, name: str, scene: str, result: str, started: float | None, **more: Any) -> dict[str, Any]:
    return {"run_id": run, "asset": name, "scene": scene, "result": result, "started": started, "seconds": 2.0, **more}


def results(
    *rows: dict[str, Any], kept: dict[str, str] | None = None, selected: list[str] | None = None
) -> pd.DataFrame:
    table = results_table(steps_table(rows), "sentinel2", kept or {}, selected or [])
    assert table.dtypes.astype(str).to_dict() == RESULT_COLUMNS
    return table.set_index("scene_id")


def test_a_scene_has_the_status_and_path_of_its_last_step() -> None:
    table = results(
        step("one", "sentinel2/segmentation", "a", "ok", 10, output_path="tiles/a"),
        step("one", "sentinel2/products", "a", "ok", 20, output_path="products/a/latest"),
        step("one", "aux/tcvis_chunk", "2024-r0-c0", "ok", 5, output_path="aux"),
        step("year", "inventory/rts", "2023", "ok", 50, output_path="inventory/rts/2023"),
    )
    assert list(table.index) == ["a"]
    assert table.loc["a", ["family", "status", "step", "output_path", "seconds", "run_id"]].tolist() == [
        "sentinel2", "ok", "products", "products/a/latest", 4.0, "one",
    ]  # fmt: skip
    assert table.loc["a", "started"] == pd.Timestamp(10, unit="s", tz="UTC")


def test_a_failed_scene_has_the_step_the_reason_and_what_was_made_before() -> None:
    table = results(
        step("one", "sentinel2/raw_scene", "a", "ok", 10, output_path="raw/a"),
        step("one", "sentinel2/preprocessed_tile", "a", "failed", 20, error="RasterError: B02.tif is damaged"),
        step("one", "sentinel2/products", "a", "skipped", None),
        step("two", "sentinel2/preprocessed_tile", "b", "ok", 10, output_path="tiles/b"),
        step("two", "sentinel2__preprocessed_tile_checks", "b", "failed", 20, error="feature_ranges: too bright"),
        step("two", "sentinel2/segmentation", "b", "skipped", None),
    )
    columns = ["status", "step", "error", "output_path"]
    assert table.loc["a", columns].tolist() == [
        "failed", "preprocessed_tile", "RasterError: B02.tif is damaged", "raw/a",
    ]  # fmt: skip
    assert table.loc["b", columns].tolist() == [
        "failed", "preprocessed_tile_checks", "feature_ranges: too bright", "tiles/b",
    ]  # fmt: skip


def test_the_last_run_of_a_scene_decides() -> None:
    before = [
        step("one", "sentinel2/raw_scene", "a", "ok", 10, output_path="raw/a"),
        step("one", "sentinel2__raw_scene_checks", "a", "failed", 12, error="dark"),
        step("one", "sentinel2/products", "a", "skipped", None),
    ]
    again = step("two", "sentinel2/products", "a", "ok", 30, output_path="products/a/latest")
    row = results(*before, again).loc["a"]
    assert (row["status"], row["output_path"], row["seconds"], row["run_id"]) == ("ok", "products/a/latest", 4.0, "two")
    assert pd.isna(row["error"])


def test_every_selected_scene_has_a_row() -> None:
    table = results(
        step("one", "sentinel2/products", "b", "ok", 1, output_path="products/b/latest"),
        kept={"c": "products/c/latest"},
        selected=["a", "b", "c"],
    )
    assert table["status"].to_dict() == {"a": "missing", "b": "ok", "c": "kept"}
    assert table["output_path"].fillna("").tolist() == ["", "products/b/latest", "products/c/latest"]
    assert results(selected=["a"])["status"].tolist() == ["missing"], "nothing has run"
