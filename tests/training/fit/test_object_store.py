"""Sets and states on an object store: what a pod reads and leaves."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest

from darts_assets.errors import NotReadableError
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.resume_state import forget_state
from darts_assets.training.fit.trainer import fit
from darts_assets.training.fit.training_set import TrainingSet
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

pytestmark = pytest.mark.slow


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreLocation]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield server.location("training")
    server.stop()


def test_a_fit_reads_and_goes_on_from_an_object_store(
    data: TrainingSet, quick: FitParameters, bucket: StoreLocation, tmp_path: Path
) -> None:
    remote, states = bucket.child("set"), bucket.child("states")
    for key in data.location.keys():  # noqa: SIM118 - not a mapping
        obstore.put(remote.objects(), key, data.location.path / key)
    chosen = quick.replace(epochs=1)
    there = fit(TrainingSet.open(remote), chosen, tmp_path / "there" / "model.ckpt", states)
    here = fit(data, chosen, tmp_path / "here" / "model.ckpt")
    assert here.header.sha256 == there.header.sha256
    assert fit(TrainingSet.open(remote), chosen, tmp_path / "again.ckpt", states).resumed == 1
    assert list(states.keys()) == [f"{there.fingerprint}/state.ckpt"]
    forget_state(states.child(there.fingerprint))
    assert not list(states.keys())


def test_what_is_not_a_whole_set_is_named(data: TrainingSet, tmp_path: Path) -> None:
    with pytest.raises(NotReadableError, match=r"config\.toml is missing"):
        TrainingSet.open(StoreLocation(str(tmp_path)))
    for name in ("config.toml", "metadata.parquet"):
        (tmp_path / name).write_bytes((data.location.path / name).read_bytes())
    with pytest.raises(NotReadableError, match=r"data\.zarr has no array x"):
        TrainingSet.open(StoreLocation(str(tmp_path)))
    (tmp_path / "config.toml").write_text('bands = ["red"]\nterrain = "physical"\n')
    with pytest.raises(NotReadableError, match="lacks 'patch_size'"):
        TrainingSet.open(StoreLocation(str(tmp_path)))


def test_a_chunk_that_is_not_there_is_not_background(data: TrainingSet, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(data.location.path, tmp_path / "set"))
    (copied / "data.zarr/y/c/3/0/0").unlink()
    damaged = TrainingSet.open(StoreLocation(str(copied)))
    damaged.patch(2)
    with pytest.raises(NotReadableError, match="chunk y/c/3/0/0 is missing"):
        damaged.patch(3)
