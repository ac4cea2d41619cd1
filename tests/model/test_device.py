import logging
from collections.abc import Sequence

import pytest
import torch

from darts_assets.errors import SettingsError
from darts_assets.model.device import BatchSize, emptiest, fitting, pick_device

CPU = torch.device("cpu")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_cpu() -> None:
    assert pick_device("cpu") == torch.device("cpu")


@no_gpu
def test_auto_without_gpu() -> None:
    assert pick_device("auto") == torch.device("cpu")


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "1", "0"])
def test_a_gpu_that_is_not_there(device: str) -> None:
    with pytest.raises(SettingsError, match=rf"device '{device}' does not exist: PyTorch can use 0 GPU"):
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


class Device:
    """Computes as many patches at a time as its memory holds, and says what PyTorch says if there are more."""

    def __init__(self, room: int) -> None:
        self.room, self.batches = room, []

    def __call__(self, patches: torch.Tensor) -> torch.Tensor:
        if len(patches) > self.room:
            raise torch.OutOfMemoryError("out of memory. Tried to allocate 20.00 GiB")
        self.batches.append(len(patches))
        return patches * 10


def cut(patches: Sequence[int]) -> torch.Tensor:
    return torch.tensor(list(patches))


def test_too_many_patches_for_the_memory_are_halved(caplog: pytest.LogCaptureFixture) -> None:
    device, size = Device(room=3), BatchSize("auto", 256, CPU)
    assert size.now == 16
    with caplog.at_level(logging.WARNING):
        done = list(size.run(device, cut, range(8)))
    assert device.batches == [2, 2, 2, 2]
    assert [(list(batch), values.tolist()) for batch, values in done][-1] == ([6, 7], [60, 70])
    assert [n for batch, _ in done for n in batch] == list(range(8))
    assert "a batch of 8 does not fit into the memory of cpu: batch size 4" in caplog.messages[0]
    list(size.run(device, cut, range(3)))
    assert device.batches[4:] == [2, 1]


def test_what_was_asked_for_is_not_changed_silently() -> None:
    with pytest.raises(SettingsError, match="batch_size 8 does not fit into the memory of cpu: reduce it"):
        list(BatchSize(8, 256, CPU).run(Device(room=3), cut, range(8)))
    for wanted in (1, "auto"):
        with pytest.raises(SettingsError, match="one patch of patch_size 1024 does not fit into the memory"):
            list(BatchSize(wanted, 1024, CPU).run(Device(room=0), cut, range(8)))


def test_auto_on_a_cpu_has_the_pixels_of_one_large_patch() -> None:
    sizes = {patch: BatchSize("auto", patch, CPU).now for patch in (128, 256, 512, 1024, 2048)}
    assert sizes == {128: 64, 256: 16, 512: 4, 1024: 1, 2048: 1}
    assert BatchSize(5, 256, CPU).now == 5


def test_what_fits_into_a_gpu() -> None:
    assert fitting(10e9, 1e9) == 8
    assert fitting(80e9, 1e9) == 16
    assert fitting(1e9, 1e9) == 1
    assert fitting(1e9, 0) == 16


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_is_measured_with_the_first_patch() -> None:
    size, seen = BatchSize("auto", 64, torch.device("cuda", 0)), []

    def network(patches: torch.Tensor) -> torch.Tensor:
        seen.append(len(patches))
        return patches.repeat(1, 1, 4, 4).amax(1)

    list(size.run(network, lambda chosen: torch.zeros((len(chosen), 3, 64, 64), device="cuda"), range(40)))
    assert seen == [1, 16, 16, 7]
