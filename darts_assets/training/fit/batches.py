"""Batches of a dataset, prefetched by threads; at most two batches wait.

Threads, because reading and decompression release the GIL, and pods have little shared memory for processes.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import torch

from darts_assets.training.fit.augment import Augmenter, generator
from darts_assets.training.fit.training_set import IGNORE, TrainingSet

Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs float32 (n, bands, rows, columns) and labels (n, rows, columns), see `TrainingSet.patch`."""

_PREFETCH = 2


@dataclass(frozen=True)
class Batches:
    """Batches of one epoch.

    Attributes:
        data: the dataset.
        numbers: row numbers of the patches, in order.
        size: patches per batch; the last batch may be smaller.
        readers: number of threads.
        augmenter: augmentation of patches; None: none.
        seed: seed of the augmentation, combined with `epoch` and the number of the patch.
        epoch: number of the epoch.
        once: whether to ignore the labels of pixels that an earlier patch of the same image contains.
        share: index of this process and number of processes; each takes every n-th patch.
    """

    data: TrainingSet
    numbers: Sequence[int]
    size: int
    readers: int = 2
    augmenter: Augmenter | None = None
    seed: int = 0
    epoch: int = 0
    once: bool = False
    share: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        return -(-len(self._own) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        starts = range(0, len(self._own), self.size)
        with ThreadPoolExecutor(self.readers, thread_name_prefix="patches") as pool:
            waiting: deque[list[Future[Batch]]] = deque()
            try:
                for start in starts:
                    waiting.append([pool.submit(self._read, int(n)) for n in self._own[start : start + self.size]])
                    if len(waiting) > _PREFETCH:
                        yield _stacked(waiting.popleft())
                while waiting:
                    yield _stacked(waiting.popleft())
            finally:
                for patch in (patch for batch in waiting for patch in batch):
                    patch.cancel()

    def _read(self, number: int) -> Batch:
        inputs, labels = (torch.from_numpy(values) for values in self.data.patch(number))
        if windows := self._repeated.get(number):
            labels = labels.clone()
            for window in windows:
                labels[window] = IGNORE
        if self.augmenter is None:
            return inputs, labels
        return self.augmenter(inputs, labels, generator(self.seed, self.epoch, number))

    @property
    def _own(self) -> Sequence[int]:
        index, processes = self.share
        return self.numbers[index::processes]

    @cached_property
    def _repeated(self) -> "dict[int, list[tuple[slice, slice]]]":
        return self.data.repeated(self.numbers) if self.once else {}


def _stacked(patches: "list[Future[Batch]]") -> Batch:
    inputs, labels = zip(*(patch.result() for patch in patches), strict=True)
    return torch.stack(inputs), torch.stack(labels)
