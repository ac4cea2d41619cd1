import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks.cluster_pods import Backfilled, Kind, processor_seconds, tables


def test_figures_are_per_scene() -> None:
    kinds = {"run": Kind(17, 85.0), "segmentation": Kind(1, 15.0)}
    backfill = Backfilled("k8s_per_run", 8, kinds, in_steps=60.0)
    assert (backfill.pods, backfill.cpu_seconds) == (2.25, 12.5)
    assert backfill.beside_steps == pytest.approx(5.0)
    console = Console(record=True, width=100)
    console.print(*tables([backfill]))
    text = console.export_text()
    assert "2.25" in text
    assert "segmentation" in text


def test_a_pod_notes_its_processor_seconds(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    with processor_seconds(tmp_path) as notes:
        subprocess.run([sys.executable, "-c", busy], env={**os.environ, "HOSTNAME": "pod-1"}, check=True)
    assert float((notes / "pod-1").read_text()) == pytest.approx(0.4, abs=0.2)
