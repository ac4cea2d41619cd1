"""Baselines are the best rules of the training part, by brute force."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from darts_assets.bands import band
from darts_assets.stores.location import StoreLocation
from darts_assets.training.fit.baselines import BaselinePredictor, as_records, fit_baselines, from_records
from darts_assets.training.fit.training_set import TrainingSet

SIDE = 32


def ground() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NDVI, near infrared and labels of two patches: slumps have 0.1 to 0.3 and bright near infrared."""
    random = np.random.default_rng(0)
    ndvi = random.uniform(-0.2, 0.8, (2, SIDE, SIDE))
    nir = random.uniform(0.02, 0.5, (2, SIDE, SIDE))
    labels = ((ndvi > 0.1) & (ndvi < 0.3) & (nir > 0.2)).astype(np.uint8)
    labels[random.uniform(size=labels.shape) < 0.05] = 1
    labels[:, :, -2:] = 2
    return ndvi.astype(np.float32), nir.astype(np.float32), labels


@dataclass(frozen=True)
class OfIndices(TrainingSet):
    """A set of NDVI and near infrared."""

    def patch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        ndvi, nir, labels = (values[number] for values in ground())
        layers = {"ndvi": band("ndvi").to_model(ndvi), "nir": band("nir").to_model(nir)}
        x = np.stack([layers[name] for name in self.bands])
        x[:, 0, :5] = 0  # missing
        return x, labels[:]


def set_of(bands: tuple[str, ...]) -> TrainingSet:
    samples = pd.DataFrame({"sample_id": ["a", "b"], "region": "Peel"})
    return OfIndices(StoreLocation("/nowhere"), bands, SIDE, "physical", None, "", samples)


def iou(predicted: np.ndarray, true: np.ndarray) -> float:
    return float((predicted & true).sum() / (predicted | true).sum())


def test_each_rule_is_the_best_of_its_kind() -> None:
    ndvi, nir, labels = ground()
    valid = np.ones(labels.shape, bool)
    valid[:, 0, :5] = False
    counted, true = labels < 2, labels == 1
    limits = np.arange(-100, 101) / 100

    def best(rules: list[np.ndarray]) -> float:
        return max(iou((rule & valid)[counted], true[counted]) for rule in rules)

    one, interval, corner = fit_baselines(set_of(("ndvi", "nir")), [0, 1])
    assert one.training_iou == pytest.approx(best([ndvi < high for high in limits]), abs=2e-3)
    pairs = [(ndvi >= low) & (ndvi < high) for low in limits[95:125] for high in limits[110:180] if high > low]
    assert interval.training_iou == pytest.approx(best(pairs), abs=2e-3)
    corners = [(ndvi < high) & (nir >= low) for high in limits[110:180] for low in np.arange(100) * 0.005]
    assert corner.training_iou == pytest.approx(best(corners), abs=2e-3)
    assert interval.training_iou > one.training_iou
    assert str(interval).startswith("0.1")
    assert str(corner).endswith(f"and NIR >= {corner.nir_low:.3f}")
    assert from_records(as_records([one, interval, corner])) == [one, interval, corner]


def test_predictions_are_those_of_the_rule() -> None:
    data = set_of(("ndvi", "nir"))
    for rule in fit_baselines(data, [0, 1]):
        predicted, labels = zip(*BaselinePredictor(rule, data).predict([0, 1]), strict=True)
        found, true = (np.stack([each.numpy() for each in values]) for values in (predicted, labels))
        assert iou(found[true < 2] == 1, true[true < 2] == 1) == pytest.approx(rule.training_iou, abs=1e-4)
        assert not found[:, 0, :5].any()


def test_sets_without_the_bands_have_fewer_rules() -> None:
    assert [rule.kind for rule in fit_baselines(set_of(("ndvi",)), [0, 1])] == [
        "best one-sided NDVI", "best NDVI interval"
    ]  # fmt: skip
    assert fit_baselines(set_of(("nir",)), [0, 1]) == []
