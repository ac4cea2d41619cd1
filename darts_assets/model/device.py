"""Devices that models run on: choice, copies to and from them, and batch sizes that fit into their memory."""

import logging
import re
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from darts_assets.errors import SettingsError

logger = logging.getLogger(__name__)

_CPU_BATCH_PIXELS = 1024**2
"""Pixels of a batch on a CPU: one patch of 1024 keeps all cores busy; two take twice the time and memory."""

_MAX_BATCH = 16
"""Patches per batch on a GPU: larger batches are not faster."""

_MEMORY_SHARE = 0.8
"""Share of a GPU's free memory used by batches; kernels need workspace."""


def pick_device(device: str) -> torch.device:
    """Resolve a device setting.

    Args:
        device: `cpu`; `cuda` (the first GPU); `cuda:1` or `1` (that GPU); `auto` (the GPU with most free memory
            among those with less than half of it in use, else the CPU).

    Raises:
        SettingsError: if the setting is invalid or the GPU does not exist.
    """
    if device == "cpu":
        return torch.device("cpu")
    if device == "auto":
        index = emptiest(_memory()) if torch.cuda.is_available() else None
        return torch.device("cpu") if index is None else torch.device("cuda", index)
    match = re.fullmatch(r"cuda|(?:cuda:)?(\d+)", device)
    if match is None:
        raise SettingsError(f"device must be cpu, cuda, cuda:N, N or auto, not {device!r}")
    index, count = int(match[1] or 0), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        raise SettingsError(f"device {device!r} does not exist: PyTorch can use {count} GPU(s) on this machine")
    return torch.device("cuda", index)


def describe_gpus() -> list[str]:
    """Index, name and memory of each GPU that PyTorch can use."""
    if not torch.cuda.is_available():
        return []
    properties = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [f"cuda:{index} {gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for index, gpu in enumerate(properties)]


def emptiest(memory: Iterable[tuple[int, int, int]]) -> int | None:
    """From (index, free bytes, total bytes), the index with most free memory, less than half in use; None if none."""
    free = {index: available for index, available, total in memory if total - available < total / 2}
    return max(free, key=lambda index: free[index]) if free else None


def _memory() -> Iterable[tuple[int, int, int]]:
    for index in range(torch.cuda.device_count()):
        try:
            yield index, *torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            # Raised for a GPU in exclusive use by another process.
            logger.warning("GPU %d is skipped: %s", index, error)


class Transfers:
    """Copies to and from a device; on a GPU through pinned memory, on streams of their own.

    On the CPU nothing is copied. PyTorch keeps pinned memory for later copies and reuses it only after the copy that
    uses it has finished.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.asynchronous = device.type == "cuda"
        if self.asynchronous:
            self._up, self._down = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def host(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Allocate host memory, float32, as the source of `up`."""
        return torch.empty(shape, dtype=torch.float32, pin_memory=self.asynchronous)

    def up(self, values: torch.Tensor) -> torch.Tensor:
        """Copy `values` to the device; only computations enqueued after this call wait for the copy."""
        if not self.asynchronous:
            return values
        with torch.cuda.stream(self._up):
            copied = values.to(self._device, non_blocking=True)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._up)
        copied.record_stream(computing)
        return copied

    def down(self, values: torch.Tensor) -> Callable[[], npt.NDArray[np.float32]]:
        """Start to copy `values` to the host; the result waits for the copy, not for later computations."""
        if not self.asynchronous:
            return lambda: values.numpy()
        host = self.host(tuple(values.shape))
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            host.copy_(values, non_blocking=True)
            done: Any = torch.cuda.Event()
            done.record()
        values.record_stream(self._down)

        def wait() -> npt.NDArray[np.float32]:
            done.synchronize()
            return host.numpy()

        return wait


class BatchSize:
    """Number of patches that a model runs at a time; on a GPU, `auto` derives it from the memory of the first patch.

    Attributes:
        now: patches of the next batch.
    """

    def __init__(self, requested: int | Literal["auto"], patch_size: int, device: torch.device) -> None:
        self.automatic = requested == "auto"
        self._patch_size, self._device = patch_size, device
        self._unmeasured = self.automatic and device.type == "cuda"
        if requested != "auto":
            self.now = requested
        else:
            self.now = 1 if self._unmeasured else max(1, _CPU_BATCH_PIXELS // patch_size**2)

    def run(
        self, network: Callable[[torch.Tensor], torch.Tensor], cut: Callable[[Sequence[int]], torch.Tensor],
        patches: Sequence[int],
    ) -> Generator[tuple[Sequence[int], torch.Tensor], None, None]:  # fmt: skip
        """Run `network` on `cut(patches)`, batch by batch; yields batches and their probabilities.

        Raises:
            SettingsError: if the memory is too small for the requested batch size, or for one patch.
        """
        done = 0
        while done < len(patches):
            batch = patches[done : done + self.now]
            probabilities = self._attempt(network, cut, batch)
            if probabilities is None:
                self._shrink(len(batch))
                continue
            done += len(batch)
            yield batch, probabilities

    def _attempt(
        self, network: Callable[[torch.Tensor], torch.Tensor], cut: Callable[[Sequence[int]], torch.Tensor],
        batch: Sequence[int],
    ) -> torch.Tensor | None:  # fmt: skip
        """The probabilities of a batch; None if it does not fit into memory."""
        before = 0
        if self._unmeasured:
            torch.cuda.reset_peak_memory_stats(self._device)
            before = torch.cuda.memory_allocated(self._device)
        try:
            probabilities = network(cut(batch))
        except torch.OutOfMemoryError:
            return None
        if self._unmeasured:
            self._unmeasured = False
            patch = (torch.cuda.max_memory_allocated(self._device) - before) / len(batch)
            unused = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
            free = torch.cuda.mem_get_info(self._device)[0] + unused
            self.now = fitting(free, patch)
            logger.info("a patch needs %.2f of %.1f GB of GPU memory: batch size %d", patch / 1e9, free / 1e9, self.now)
        return probabilities

    def _shrink(self, tried: int) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            raise SettingsError(
                f"one patch of patch_size {self._patch_size} does not fit into the memory of {self._device}: reduce "
                "patch_size"
            )
        if not self.automatic:
            raise SettingsError(
                f"batch_size {self.now} does not fit into the memory of {self._device}: reduce it, or set it to auto"
            )
        self.now = tried // 2
        logger.warning("a batch of %d does not fit into the memory of %s: batch size %d", tried, self._device, self.now)


def fitting(free: float, patch: float) -> int:
    """Number of patches of `patch` bytes each that fit into `free` bytes, 1 to 16."""
    return max(1, min(_MAX_BATCH, int(_MEMORY_SHARE * free / patch))) if patch > 0 else _MAX_BATCH
