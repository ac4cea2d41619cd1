"""What the chart of durations draws as scenes."""

from importlib import import_module
from typing import Any

import pytest
from matplotlib.figure import Figure

from darts_assets import plots
from darts_assets.timings import chart, scene_steps, steps_table


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    drawn: list[Figure] = []

    def render(figure: Figure) -> Any:
        drawn.append(figure)
        return plots.render(figure)

    monkeypatch.setattr(import_module("darts_assets.timings.chart"), "render", render)
    return drawn


def done(asset: str, scene: str | None, seconds: float) -> dict[str, Any]:
    return {"run_id": "one", "asset": asset, "scene": scene, "result": "ok", "started": 0.0, "seconds": seconds}


OTHERS = [
    done("inventory/rts", "2023", 30.0),
    done("catalog/stac", None, 5.0),
    done("training/labelled_samples", "a", 7.0),
    done("aux/tcvis_chunk", "2024-r0000-c0000", 3.0),
]


def test_years_and_chunks_are_no_scenes(figures: list[Figure]) -> None:
    rows = [done("sentinel2/raw_scene", scene, 2.0) for scene in "ab"] + [done("planet/products", "c", 4.0)]
    steps = steps_table(rows + OTHERS)
    assert set(scene_steps(steps)["scene"]) == {"a", "b", "c"}
    assert chart(steps) is not None
    axes = {each.get_xlabel().partition(" ")[0]: each for each in figures[0].axes}
    assert axes["3"].get_xlabel().startswith("3 scenes in order of first start")
    assert [label.get_text() for label in axes["3"].get_yticklabels()] == ["sentinel2/raw_scene", "planet/products"]
    assert axes["mean"].get_xlabel().endswith("total 6.0 s"), "not the year's 30 s"
    legend = [text.get_text() for text in axes["duration"].get_legend().get_texts()]
    assert any(text.startswith("inventory/rts: 30 s") for text in legend), "its distribution is drawn"


def test_runs_without_scenes_have_a_chart(figures: list[Figure]) -> None:
    assert chart(steps_table(OTHERS)) is not None
    assert "no scene in these runs" in [text.get_text() for each in figures[0].axes for text in each.texts]
