import logging
from collections.abc import Sequence

import pytest
import torch

from darts_assets.errors import SettingsError
from darts_assets.model.batch_size import BatchSize, fitting

CPU = torch.device("cpu")


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
    assert "8 patches are too many for the memory of cpu: going on with 4" in caplog.messages[0]
    list(size.run(device, cut, range(3)))
    assert device.batches[4:] == [2, 1]


def test_what_was_asked_for_is_not_changed_silently() -> None:
    with pytest.raises(SettingsError, match="does not suffice for batch_size 8: make it smaller, or `auto`"):
        list(BatchSize(8, 256, CPU).run(Device(room=3), cut, range(8)))
    for wanted in (1, "auto"):
        with pytest.raises(SettingsError, match="does not suffice for one patch of patch_size 1024"):
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
