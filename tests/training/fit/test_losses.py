import pytest
import torch

from darts_assets.errors import SettingsError
from darts_assets.training.fit.losses import LOSSES, ClassWeights, Loss

LABELS = torch.zeros((2, 16, 16), dtype=torch.uint8)
LABELS[:, 4:9, 4:9] = 1
LABELS[:, :, 12:] = 2


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn((2, 1, 16, 16), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_ignored_changes_nothing(name: str) -> None:
    loss, one = Loss({name: 1}), logits().requires_grad_()
    other = logits()
    other[..., 12:] = 30
    value = loss(one, LABELS)
    assert value.item() == pytest.approx(float(loss(other, LABELS)), abs=1e-6)
    value.backward()
    assert one.grad is not None
    assert (one.grad[..., 12:] == 0).all()
    assert (one.grad[..., :12] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_that_is_wholly_ignored_teaches_nothing(name: str) -> None:
    one = logits().requires_grad_()
    value = Loss({name: 1})(one, torch.full_like(LABELS, 2))
    assert value.item() == 0
    value.backward()
    assert one.grad is not None
    assert (one.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_truth_has_the_least_loss(name: str) -> None:
    truth = torch.where(LABELS == 1, 12.0, -12.0)[:, None]
    loss = Loss({name: 1})
    assert float(loss(truth, LABELS)) == pytest.approx(0, abs=1e-3)
    assert float(loss(-truth, LABELS)) > 0.5
    assert float(loss(logits(), LABELS)) > 0.05


def test_losses_are_summed_by_weight() -> None:
    both = Loss({"bce": 2, "dice": 0.5})(logits(), LABELS)
    alone = [float(Loss({name: 1})(logits(), LABELS)) for name in ("bce", "dice")]
    assert float(both) == pytest.approx(2 * alone[0] + 0.5 * alone[1])


@pytest.mark.parametrize("weights", [{}, {"dice": 0}, {"dice": 1, "dise": 1}])
def test_senseless_losses_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match="loss"):
        Loss(weights)


def test_slump_pixels_have_their_weight() -> None:
    only_slump = torch.where(LABELS == 1, 1, 2)
    plain, weighted = (float(Loss({"bce": 1}, ClassWeights(weight))(logits(), only_slump)) for weight in (1, 3))
    assert weighted == pytest.approx(3 * plain)
    low, high = (
        float(Loss({"focal": 1}, ClassWeights(focal_alpha=alpha))(logits(), only_slump)) for alpha in (0.2, 0.8)
    )
    assert high == pytest.approx(4 * low)


@pytest.mark.parametrize("name", ["bce", "dice", "focal", "jaccard", "tversky"])
def test_a_share_of_experts_is_met_best_by_its_probability(name: str) -> None:
    share = torch.full((1, 16, 16), 0.75)
    share[:, 8:] = 0
    answers = {
        value: float(Loss({name: 1})(torch.where(share > 0, value, -12.0)[:, None], share)) for value in (-2.0, 1.0986)
    }
    assert answers[1.0986] < answers[-2.0]
    halves = Loss({"bce": 1})(torch.where(share > 0, 1.0986, -12.0)[:, None], share)
    for other in (0.5, 2.0, 5.0):
        assert halves < Loss({"bce": 1})(torch.where(share > 0, other, -12.0)[:, None], share)


def test_lovasz_takes_the_majority() -> None:
    share = torch.where(LABELS == 1, 0.7, torch.where(LABELS == 0, 0.4, 2.0))
    assert float(Loss({"lovasz": 1})(logits(), share)) == pytest.approx(float(Loss({"lovasz": 1})(logits(), LABELS)))
