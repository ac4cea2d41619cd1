"""The proof covers every fold of every split, and finds what a split leaks."""

from typing import Any

import pandas as pd
import pytest

from darts_assets.errors import TrainingError
from darts_assets.training.fit import split_check
from darts_assets.training.fit.split_check import prove_splits
from darts_assets.training.fit.splits import Split
from darts_assets.training.split_parameters import SplitParameters

from .test_splits import clip

APART = pd.concat(
    [clip(patches=4, overlap=32, sample=f"image-{n}", shift=n * 50_000, scene_id=f"scene-{n // 2}") for n in range(6)],
    ignore_index=True,
).assign(region=[f"region {n // 32}" for n in range(96)])


def test_every_split_is_proven() -> None:
    proofs = {proof.split_by: proof for proof in prove_splits(APART, SplitParameters())}
    assert {name: (each.unit, each.folds, each.groups) for name, each in proofs.items() if name != "block"} == {
        "auto": ("region", 3, 3), "region": ("region", 3, 3), "sample": ("sample", 5, 6), "scene": ("scene", 3, 3),
        "random": ("random", 5, 6),
    }  # fmt: skip
    assert all(proof.leaks == () for proof in proofs.values())
    assert proofs["block"].unit == "block"
    assert proofs["auto"].left_out == 0


def test_what_is_not_possible_says_why() -> None:
    proofs = {proof.split_by: proof for proof in prove_splits(clip(overlap=32), SplitParameters(folds=4))}
    assert (proofs["auto"].unit, proofs["block"].folds) == ("block", 4)
    assert proofs["block"].left_out > 0
    assert proofs["region"].unit == ""
    assert proofs["region"].note.startswith("4 folds by region need at least as many groups")
    assert "needs the column scene_id" in proofs["scene"].note


def test_leaks_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaky:
        unit, count, groups, whole_images, choices = "sample", 1, ("a",), True, ()

        def split(self, fold: int) -> Split:
            return Split((0, 1), (4, 17), ())

    def leaky(*arguments: Any) -> Leaky:
        return Leaky()

    monkeypatch.setattr(split_check, "folds_of", leaky)
    first = prove_splits(APART, SplitParameters())[0]
    assert first.leaks == (
        "fold 0: images in both parts: 'image-0'",
        "fold 0: 1 held-out patches share ground with the training part",
    )


def test_copies_have_no_proof() -> None:
    with pytest.raises(TrainingError, match="image-0 and image-1 have 1 patches"):
        prove_splits(APART.assign(content=[*range(16), 0, *range(17, 96)]), SplitParameters())
