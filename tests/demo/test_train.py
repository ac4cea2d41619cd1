import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from darts_assets.bands import FEATURES
from darts_assets.demo import train
from darts_assets.demo.train import ARCHITECTURE, TERRAIN_CONVENTION, Sample, _crop, fit
from darts_assets.model import read_header
from darts_assets.model.networks import save_checkpoint


@pytest.fixture
def sample() -> Sample:
    rng = np.random.default_rng(0)
    labels = np.zeros((224, 256), dtype=np.uint8)
    labels[100:120, 60:90] = 1
    inputs = rng.uniform(0.3, 0.7, (len(FEATURES), *labels.shape)).astype(np.float16)
    return Sample(inputs, labels, np.array([[110, 75]]))


def test_crops_keep_inputs_and_labels_together(sample: Sample) -> None:
    ndvi = FEATURES.index("ndvi")
    sample.inputs[ndvi] = sample.labels
    rng = np.random.default_rng(1)
    for _ in range(20):
        inputs, labels = _crop(sample, rng)
        assert inputs.shape == (len(FEATURES), 192, 192)
        np.testing.assert_array_equal(inputs[ndvi], labels)


@pytest.mark.slow
def test_what_is_trained_becomes_a_checkpoint(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_BATCH", 2)
    monkeypatch.setattr(train, "_CROP", 96)
    model = fit([sample], steps=2, seed=0)
    header = save_checkpoint(tmp_path / "model.ckpt", model, ARCHITECTURE, FEATURES, TERRAIN_CONVENTION, steps=2)
    assert (header.bands, header.terrain) == (FEATURES, "darts-2025")
    assert header.path.stat().st_size < 5e6


@pytest.mark.slow
def test_the_documented_command_writes_a_checkpoint_and_says_how_good_it_is(tmp_path: Path) -> None:
    out = tmp_path / "slumps_demo.ckpt"
    done = subprocess.run(
        [sys.executable, "-m", "darts_assets.demo.train", "--out", str(out), "--worlds", "1", "--steps", "2"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert read_header(out).bands == FEATURES
    scores = done.stdout.strip().splitlines()
    assert len(scores) == 3, "one line for each scene of the demo"
    assert all("Score(iou=" in line for line in scores)
