"""Logs of a training can be read by the tools that they are for."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import obstore
import pandas as pd
import pytest

from darts_assets.errors import SettingsError
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit import training_logs
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.trainer import fit
from darts_assets.training.fit.training_set import TrainingSet

pytestmark = pytest.mark.slow


def log_records(content: bytes) -> Iterator[bytes]:
    """Records of a LevelDB log after the 7 bytes of W&B's header: blocks of 32 KiB, chunks with CRC, size and type."""
    assert content.startswith(b":W&B")
    position, record = 7, b""
    while position + 7 <= len(content):
        if 2**15 - position % 2**15 < 7:
            position += 2**15 - position % 2**15
            continue
        size, kind = struct.unpack_from("<HB", content, position + 4)
        record += content[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole record, or the last chunk of one
            yield record
            record = b""


def test_tables_and_files_of_the_loggers(data: TrainingSet, quick: FitParameters, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    logs, seen = StoreLocation(str(tmp_path / "logs")), []
    chosen = quick.replace(loggers=["tensorboard", "wandb"], wandb_project="slumps")
    result = fit(
        data, chosen, tmp_path / "model.ckpt", logs=logs, on_epoch=lambda history, best: seen.append(len(history))
    )
    assert seen == [1, 2]
    folder = logs.child(result.fingerprint)
    table = pd.read_csv(io.BytesIO(bytes(obstore.get(folder.objects(), "metrics.csv").bytes())))
    losses = [epoch["validation_loss"] for epoch in result.history]
    assert table["validation_loss"].tolist() == pytest.approx(losses)

    events = accumulator.EventAccumulator(str(folder.path / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("validation_loss")] == pytest.approx(losses)

    (run,) = folder.path.glob("wandb/offline-run-*/run-*.wandb")
    kinds, project = [], ""
    for content in log_records(run.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        kinds.append(record.WhichOneof("record_type"))
        project = record.run.project or project
    assert project == "slumps"
    assert kinds.count("history") >= 2
    assert kinds[-1] in {"exit", "final", "footer"}, "the run is complete"


def test_a_logger_that_is_not_installed_is_named(
    data: TrainingSet, quick: FitParameters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_logs, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'darts_assets\[wandb\]'"):
        fit(data, quick.replace(loggers=["wandb"]), tmp_path / "model.ckpt")
