"""Studies continue, also after a process was killed, and two processes work on one."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from darts_assets.errors import SettingsError
from darts_assets.stores.location import StoreLocation
from darts_assets.training import tuning
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.tuning import study_chart, tune
from darts_assets.training.tuning_parameters import TuningParameters
from tests.training.fit.conftest import SIDE, SMALL, write_set

pytest.importorskip("optuna")
pytestmark = pytest.mark.slow

FIT = {
    "architecture": {**SMALL, "encoder_depth": 2, "decoder_channels": [8, 8]}, "epochs": 3, "batch_size": 2, "folds": 2,
    "split_by": "sample", "device": "cpu", "monitor": "iou", "augmentations": [], "readers": 1,
}  # fmt: skip
SEARCH = {
    "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
    "losses": [{"bce": 1.0}, {"bce": 1.0, "dice": 1.0}],
}

WORK = """
import json, sys
from darts_assets.stores.location import StoreLocation
from darts_assets.training import tuning
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.tuning_parameters import TuningParameters

data, models, parameters, search, waiting = sys.argv[1:]
trained = tuning.fit

def slowly(*args, on_epoch, **kwargs):
    def wait(history, best):
        on_epoch(history, best)
        if len(history) == 2 and waiting == "yes":
            print("two epochs", flush=True)
            sys.stdin.read()
    return trained(*args, on_epoch=wait, **kwargs)

tuning.fit = slowly
study = TuningParameters(study="s", trials=3, search=json.loads(search), startup_trials=9)
chosen = FitParameters(**json.loads(parameters))
report = tuning.tune(TrainingSet.open(StoreLocation(data)), chosen, study, StoreLocation(models))
print(len(report.trials))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    """Four images of one patch with a bright square."""
    random = np.random.default_rng(0)
    patches = []
    for number in range(4):
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[20:40, 8 + 8 * number : 30 + 8 * number] = 1
        inputs = (0.2 * random.uniform(size=(13, SIDE, SIDE)) + 0.5 * labels).astype(np.float32)
        patches.append(({"sample_id": f"image {number}", "region": "Peel"}, inputs, labels))
    return write_set(tmp_path_factory.mktemp("tuned") / "set", patches)


def work(data: TrainingSet, models: Path, waiting: str) -> "subprocess.Popen[str]":
    arguments = [data.location.url, str(models), json.dumps(FIT), json.dumps(SEARCH), waiting]
    return subprocess.Popen(
        [sys.executable, "-c", WORK, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_killed_study_goes_on(data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with work(data, tmp_path, "yes") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "two epochs\n"
        process.kill()
    monkeypatch.setattr(tuning, "GRACE", 1)
    monkeypatch.setattr(tuning, "HEARTBEAT", 1)
    time.sleep(2.5)  # the last heartbeat of the killed process is older than the grace time
    resumed = []
    trained = tuning.fit
    monkeypatch.setattr(tuning, "fit", lambda *args, **more: resumed.append(trained(*args, **more)) or resumed[-1])
    study = TuningParameters(study="s", trials=2, search=SEARCH, startup_trials=9)
    report = tune(data, FitParameters(**FIT), study, StoreLocation(str(tmp_path)))
    states = report.trials["state"].tolist()
    assert states[:2] == ["fail", "complete"], "the killed trial is repeated first"
    assert report.trials.loc[1, "learning_rate"] == report.trials.loc[0, "learning_rate"]
    assert report.trials.loc[1, "losses"] == report.trials.loc[0, "losses"]
    assert [result.resumed for result in resumed] == [2, 0], "and continues after its last epoch"
    assert report.value == report.trials["value"].max()
    assert report.best["losses"] in SEARCH["losses"]
    assert not list((tmp_path / "unfinished").rglob("state.ckpt"))
    assert len(study_chart(report).getcolors(2**16) or []) > 10
    again = tune(data, FitParameters(**FIT), study, StoreLocation(str(tmp_path)))
    assert len(again.trials) == len(report.trials), "a finished study does not go on"


def test_two_processes_work_on_one_study(data: TrainingSet, tmp_path: Path) -> None:
    with work(data, tmp_path, "no") as one, work(data, tmp_path, "no") as other:
        outputs = [process.communicate(timeout=300)[0] for process in (one, other)]
    assert (one.returncode, other.returncode) == (0, 0)
    study = TuningParameters(study="s", trials=3, search=SEARCH, startup_trials=9)
    report = tune(data, FitParameters(**FIT), study, StoreLocation(str(tmp_path)))
    assert report.trials["trial"].tolist() == list(range(len(report.trials)))
    assert set(report.trials["state"]) == {"complete"}
    assert 3 <= len(report.trials) <= 4
    assert report.trials["learning_rate"].nunique() == len(report.trials)
    assert all(int(output) <= len(report.trials) for output in outputs)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": {"colour": [1]}}, "search has 'colour', which is not a hyperparameter"),
        ({"search": {"epochs": {"low": 1}}}, "epochs is {'low': 1}, expected a list, or low, high"),
        ({"search": {}}, "search is empty"),
    ],
)
def test_searches_that_cannot_be(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        TuningParameters(**changes)  # type: ignore[arg-type]


def test_what_a_study_needs(data: TrainingSet, tmp_path: Path) -> None:
    study = TuningParameters(search=SEARCH)
    with pytest.raises(SettingsError, match="search has losses, which changes the loss"):
        tune(data, FitParameters(**{**FIT, "monitor": "loss"}), study, StoreLocation(str(tmp_path)))
    with pytest.raises(SettingsError, match="storage is not set, and the store is not a folder"):
        tune(data, FitParameters(**FIT), study, StoreLocation("s3://bucket/models"))
