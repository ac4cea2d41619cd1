"""Folds as partitions, their summary, and the ensemble of their models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from darts_assets.model import read_header
from darts_assets.orchestration.training.common import CROSS_VALIDATION, DATASET, FOLDS, PLANET_SAMPLES
from tests.e2e.asset_runs import failure
from tests.orchestration.training.test_model import FIT, Workshop

pytestmark = pytest.mark.slow

CONFIG = {**FIT, "name": "slumps"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and wait for each other where other tests run beside."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("workshop"))
    for image in made.images:
        made.said(PLANET_SAMPLES, image, labels=str(made.labels), patch_size=64, overlap=0, exclude_nan=False)
    made.said(DATASET)
    return made


def test_folds_are_trained_one_by_one_and_summarized(workshop: Workshop) -> None:
    first = workshop.said(FOLDS, "0", **CONFIG)
    assert first["path"].endswith("models/slumps-fold0.ckpt")
    missing = workshop.run(CROSS_VALIDATION)
    assert "of 2 folds, 1 are missing; materialize these partitions of training/folds" in failure(missing)
    second = workshop.said(FOLDS, "1", **CONFIG)
    versions = [facts["provenance"]["data_version"] for facts in (first, second)]
    assert versions[0] != versions[1]
    assert first["patches"]["validation"] == second["patches"]["training"] + second["patches"]["left_out"]
    summary = workshop.said(CROSS_VALIDATION)
    rows = {row["fold"]: row for row in (dict(record.data) for record in summary["folds"].records)}
    assert list(rows) == ["0", "1", "mean", "standard deviation", "all"]
    ious = [facts["validation"]["iou"] for facts in (first, second)]
    assert [float(rows[fold]["iou"]) for fold in ("0", "1")] == pytest.approx(ious, abs=1e-3)
    assert float(rows["mean"]["iou"]) == pytest.approx(sum(ious) / 2, abs=1e-3)
    assert int(rows["all"]["patches"]) == sum(facts["patches"]["validation"] for facts in (first, second))
    assert [dict(record.data)["region"] for record in summary["regions"].records] == ["none"]
    assert summary["verdict"].startswith(("Better than the", "No better than the"))
    assert summary["Folds"].startswith("![](data:image/webp;base64,")
    models = summary["DARTS_MODELS"].split(",")
    assert models == ["slumps-fold0", "slumps-fold1"]
    assert summary["best_model"] == models[ious.index(max(ious))]
    headers = [read_header(workshop.store / "models" / f"{name}.ckpt") for name in models]
    assert [header.sha256 for header in headers] == [first["sha256"], second["sha256"]]


def test_a_model_has_its_card(workshop: Workshop) -> None:
    facts = workshop.said(FOLDS, "0", **CONFIG, licence="CC-BY-4.0")
    path = Path(facts["path"])
    header = read_header(path)
    assert header.card["markdown"] == facts["card"] == path.with_suffix(".md").read_text()
    assert "## Licence\n\nCC-BY-4.0" in facts["card"]
    assert f"Hash of the training set: `{header.card['markdown'].split('`')[-2]}`" in facts["card"]
    assert "Terrain convention: `darts-2025`" in facts["card"]
    assert "There is no test part." in facts["card"]
    iou = header.card["accuracy"]["validation"]["iou"]
    assert iou["value"] == pytest.approx(facts["validation"]["iou"], abs=1e-3)
    assert iou["low"] <= iou["value"] <= iou["high"]


@pytest.mark.parametrize(
    ("partition", "changes", "words"),
    [
        ("5", {}, "fold 5: the set has 2 folds with these parameters, so partitions 0 to 1"),
        ("1", {"fold": 1}, "fold cannot be set: each partition is a fold"),
    ],
)
def test_what_is_no_fold(workshop: Workshop, partition: str, changes: dict[str, Any], words: str) -> None:
    assert words in failure(workshop.run(FOLDS, partition, **{**CONFIG, **changes}))


def test_folds_of_different_setups_are_not_mixed(workshop: Workshop) -> None:
    for fold, epochs in (("0", 1), ("1", 2)):
        workshop.said(FOLDS, fold, **{**CONFIG, "name": "mixed", "epochs": epochs})
    assert "the folds differ in epochs; train them with the same config" in failure(
        workshop.run(CROSS_VALIDATION, name="mixed")
    )
