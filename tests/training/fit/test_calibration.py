"""The temperature of probabilities."""

import pytest
import torch

from darts_assets.training.fit.calibration import fitted_temperature


def pixels(factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are `factor` times too large, and labels drawn by the true probabilities; a third is ignored."""
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn((300, 300), generator=random) - 1
    labels = torch.bernoulli(logits.sigmoid(), generator=random).long()
    labels[:100] = 2
    return logits * factor, labels


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_the_factor(factor: float) -> None:
    logits, labels = pixels(factor)
    assert fitted_temperature([(logits, labels)]) == pytest.approx(factor, rel=0.03)
    assert fitted_temperature(zip(logits, labels, strict=True)) == fitted_temperature([(logits, labels)])


def test_shares_of_experts_are_probabilities() -> None:
    logits, labels = pixels(3.0)
    shares = torch.where(labels == 2, 2.0, (logits / 3).sigmoid())
    assert fitted_temperature([(logits, shares)]) == pytest.approx(3, rel=0.01)


@pytest.mark.parametrize("label", [0, 1, 2])
def test_one_class_has_no_temperature(label: int) -> None:
    assert fitted_temperature([(torch.randn(9), torch.full((9,), label))]) is None
