"""The command that measures the stages: it runs, its figures are kept, and what has become worse is found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.figures import Figures, compared

COMMAND = [sys.executable, "-m", "tests.benchmarks.stages", "--size", "256", "--stage", "raw scene"]
BEFORE: Figures = {"raw scene": {"seconds": 10.0, "cpu_seconds": 20.0, "peak_rss": 1e9}}


def test_the_command_keeps_figures_and_compares_them(tmp_path: Path) -> None:
    file, baseline = tmp_path / "figures.json", tmp_path / "baseline.json"
    file.write_text(json.dumps({"sizes": {"2048": {"stages": BEFORE}}}))
    baseline.write_text(
        json.dumps({"sizes": {"256": {"stages": {"raw scene": BEFORE["raw scene"] | {"peak_rss": 5e7}}}}})
    )
    options = ["--folder", str(tmp_path / "site"), "--json", str(file), "--baseline", str(baseline)]
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "raw scene: peak RSS is" in done.stderr
    assert "CPU seconds" not in done.stderr

    kept = json.loads(file.read_text())
    assert kept["machine"]["cores"] >= 1
    assert kept["machine"]["memory_gib"] > 0
    assert kept["sizes"]["2048"]["stages"] == BEFORE, "other sizes stay"
    (figures,) = kept["sizes"]["256"]["stages"].values()
    assert 0 < figures["cpu_seconds"] < 60
    assert 50e6 < figures["peak_rss"] < 4e9
    # Four bands of 16-bit numbers and a classification, compressed; the COGs have overviews too.
    assert figures["bytes_written"] is None or 100_000 < figures["bytes_written"] < 2_000_000
    assert figures["read_seconds"] > 0
    assert figures["write_seconds"] > 0


def test_a_baseline_without_that_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text('{"sizes": {}}')
    command = [*COMMAND, "--baseline", str(tmp_path / "empty.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no figures of size 256" in done.stderr


@pytest.mark.parametrize(
    ("change", "worse"),
    [
        ({}, []),
        ({"seconds": 99.0}, []),  # others may be at work
        ({"cpu_seconds": 5.0, "peak_rss": 5e8}, []),
        ({"cpu_seconds": 24.0, "peak_rss": 1.2e9}, []),
        ({"cpu_seconds": 26.0}, ["raw scene: CPU seconds is 1.30 times the baseline's"]),
        ({"peak_rss": 1.5e9}, ["raw scene: peak RSS is 1.50 times the baseline's"]),
    ],
)
def test_worse_is_more_processor_time_or_memory_than_the_tolerance(change: dict[str, float], worse: list[str]) -> None:
    now = {"raw scene": BEFORE["raw scene"] | change, "unknown before": BEFORE["raw scene"]}
    assert compared(now, BEFORE, tolerance=0.25)[1] == worse


def test_differences_of_very_short_stages_are_noise() -> None:
    before: Figures = {"raw scene": {"seconds": 0.1, "cpu_seconds": 0.1, "peak_rss": 5e7}}
    now: Figures = {"raw scene": {"seconds": 0.1, "cpu_seconds": 0.3, "peak_rss": 8e7}}
    assert compared(now, before, tolerance=0.25)[1] == []
