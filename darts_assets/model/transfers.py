"""Copies between memory and device, beside the computation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


class Transfers:
    """Copies to and from a device; on a GPU from and to pinned memory, on streams of their own.

    On the CPU nothing is copied. PyTorch keeps pinned memory for the next copy, and does not hand it out again before
    the one that uses it is done.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.asynchronous = device.type == "cuda"
        if self.asynchronous:
            self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def host(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Memory to fill and to bring up, float32."""
        return torch.empty(shape, dtype=torch.float32, pin_memory=self.asynchronous)

    def up(self, values: torch.Tensor) -> torch.Tensor:
        """`values` on the device; what is computed from here on waits for them, what was before does not."""
        if not self.asynchronous:
            return values
        with torch.cuda.stream(self._up):
            copied = values.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._up)
        copied.record_stream(computing)
        return copied

    def down(self, values: torch.Tensor) -> Callable[[], npt.NDArray[np.float32]]:
        """`values` in memory: a call that waits for them, and for nothing that is computed after them."""
        if not self.asynchronous:
            return lambda: values.numpy()
        here = self.host(tuple(values.shape))
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            here.copy_(values, non_blocking=True)
            done: Any = torch.cuda.Event()
            done.record()
        values.record_stream(self._down)

        def wait() -> npt.NDArray[np.float32]:
            done.synchronize()
            return here.numpy()

        return wait
