"""The grid of the sliding window, one axis at a time: where patches lie and with which weights they are blended.

Results of a model depend on where patches lie, so this is exactly the grid of DARTS: the tile, extended by reflection,
is covered with a patch every `patch - overlap` pixels; the last one is moved back to end with the tile. The weight of
a patch is the product of a ramp per axis. So is the sum of the weights of all patches, because the grid is regular:
two vectors hold it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

_LEAST_WEIGHT = 1e-6
"""Of the outermost pixel of a patch. It is 0 in DARTS, but then a tile's outermost one would have no weight at all."""


@dataclass(frozen=True)
class PatchAxis:
    """Rows or columns of a tile, extended and covered with patches.

    "Extended" pixels count from the start of the extended axis; the tile's first pixel is extended pixel `padding`.

    Attributes:
        length: pixels of the tile.
        padding: pixels by which it is extended at both ends. A tile that is then still shorter than a patch is
            extended to one patch at its far end.
        patch: pixels of a patch.
        overlap: pixels that neighbouring patches share, at most half a patch.
    """

    length: int
    padding: int
    patch: int
    overlap: int

    @property
    def extended(self) -> int:
        """Pixels of the extended axis."""
        return max(self.length + 2 * self.padding, self.patch)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First extended pixel of each patch, ascending."""
        last = self.extended - self.patch
        steps = range(0, max(self.extended - self.overlap, 1), self.patch - self.overlap)
        return tuple(min(start, last) for start in steps)

    def source(self, start: int, stop: int) -> npt.NDArray[np.intp]:
        """The tile's pixels that the extended pixels `start` to `stop` show.

        Beyond an end the tile is reflected without repeating its outermost pixel, back and forth if it is shorter
        than the extension.
        """
        period = max(2 * (self.length - 1), 1)
        offset = (np.arange(start, stop) - self.padding) % period
        return np.minimum(offset, period - offset) if self.length > 1 else np.zeros_like(offset)

    @cached_property
    def ramp(self) -> npt.NDArray[np.float32]:
        """Weights of a patch along the axis: 0 to 1 over `overlap` pixels, 1, and back (float32, length `patch`)."""
        rise = np.linspace(0, 1, self.overlap, dtype=np.float32)
        fall = np.linspace(1, 0, self.overlap, dtype=np.float32)
        flat = np.ones(self.patch - 2 * self.overlap, dtype=np.float32)
        return np.maximum(np.concatenate([rise, flat, fall]), np.float32(_LEAST_WEIGHT))

    @cached_property
    def weights(self) -> npt.NDArray[np.float32]:
        """Sum of the weights of all patches at each extended pixel (float32, above 0)."""
        total = np.zeros(self.extended, dtype=np.float32)
        for start in self.starts:
            total[start : start + self.patch] += self.ramp
        return total
