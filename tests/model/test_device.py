import pytest
import torch

from darts_assets.errors import SettingsError
from darts_assets.model.device import emptiest, pick_device

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_cpu() -> None:
    assert pick_device("cpu") == torch.device("cpu")


@no_gpu
def test_auto_without_gpu() -> None:
    assert pick_device("auto") == torch.device("cpu")


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "1", "0"])
def test_a_gpu_that_is_not_there(device: str) -> None:
    with pytest.raises(SettingsError, match=rf"device '{device}' was asked for, but this machine has 0 GPU"):
        pick_device(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_with_gpu() -> None:
    assert pick_device("cuda") == pick_device("cuda:0") == pick_device("0") == torch.device("cuda", 0)
    with pytest.raises(SettingsError, match="'cuda:99' was asked for"):
        pick_device("cuda:99")


@pytest.mark.parametrize("device", ["gpu", "", "-1", "cuda:", "cuda:x", "mps"])
def test_no_device(device: str) -> None:
    with pytest.raises(SettingsError, match="must be cpu, cuda, cuda:N, N or auto"):
        pick_device(device)


@pytest.mark.parametrize(
    ("memory", "index"),
    [
        ([], None),
        ([(0, 4, 10)], None),
        ([(0, 5, 10)], None),
        ([(0, 6, 10)], 0),
        ([(0, 6, 10), (1, 30, 40), (2, 39, 80)], 1),
    ],
)
def test_emptiest(memory: list[tuple[int, int, int]], index: int | None) -> None:
    assert emptiest(memory) == index
