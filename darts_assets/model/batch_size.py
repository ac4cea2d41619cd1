"""How many patches run at a time."""

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Literal

import torch

from darts_assets.errors import SettingsError

logger = logging.getLogger(__name__)

_CPU_PIXELS = 1024**2
"""Of a batch on a CPU: one patch of 1024 keeps all cores busy; two take twice the time and memory."""

_MOST = 16
"""Patches of a batch on a GPU: more would only take longer to fill."""

_SHARE = 0.8
"""Of a GPU's free memory that batches may take: kernels need work space of their own."""


class BatchSize:
    """The number of patches that a model runs at a time; on a GPU, `auto` starts with one and measures what it takes.

    Attributes:
        now: patches of the next batch.
    """

    def __init__(self, wanted: int | Literal["auto"], patch_size: int, device: torch.device) -> None:
        self.automatic = wanted == "auto"
        self._patch_size, self._device = patch_size, device
        self._unmeasured = self.automatic and device.type == "cuda"
        if wanted != "auto":
            self.now = wanted
        else:
            self.now = 1 if self._unmeasured else max(1, _CPU_PIXELS // patch_size**2)

    def run(
        self, network: Callable[[torch.Tensor], torch.Tensor], cut: Callable[[Sequence[int]], torch.Tensor],
        patches: Sequence[int],
    ) -> Generator[tuple[Sequence[int], torch.Tensor], None, None]:  # fmt: skip
        """Run `network` on what `cut` gives for `patches`, batch by batch; yields batches and their probabilities.

        Raises:
            SettingsError: if the memory does not suffice for the batch size that was asked for, or for one patch.
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
        """The probabilities of a batch; None if there is too little memory for it."""
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
            logger.info("a patch takes %.2f GB of the GPU's %.1f GB: batches of %d", patch / 1e9, free / 1e9, self.now)
        return probabilities

    def _shrink(self, tried: int) -> None:
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            raise SettingsError(
                f"the memory of {self._device} does not suffice for one patch of patch_size {self._patch_size}"
            )
        if not self.automatic:
            raise SettingsError(
                f"the memory of {self._device} does not suffice for batch_size {self.now}: make it smaller, or `auto`"
            )
        self.now = tried // 2
        logger.warning("%d patches are too many for the memory of %s: going on with %d", tried, self._device, self.now)


def fitting(free: float, patch: float) -> int:
    """Patches of `patch` bytes each that fit into `free` bytes, 1 to 16."""
    return max(1, min(_MOST, int(_SHARE * free / patch))) if patch > 0 else _MOST
