"""Statistics and a decimated preview of each band, accumulated while a tile is written.

Checks and previews use them instead of reading the tile again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

PREVIEW_SIDE = 256
"""Maximum length of a preview's longer side, in pixels; every 43rd pixel of a Sentinel-2 scene."""

_FINITE = float(np.finfo(np.float32).max)  # JSON has no infinity


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Statistics of a band's values before encoding (which may clip them), without NaN and fill value.

    Attributes:
        pixels: number of pixels with data.
        low: lowest value, 0 without data. Infinity becomes the largest float32.
        high: highest value, likewise.
        percentiles: 1 %, 50 % and 99 % of the preview's values.
        counts: of bands stored in 8 bits, stored value -> number of pixels, including fill. Of probabilities, percent
            (rounded up: 51 for more than 0.50 up to 0.51) -> number of pixels. Otherwise empty.
    """

    pixels: int
    low: float = 0.0
    high: float = 0.0
    percentiles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Approximate median (that of the preview)."""
        return self.percentiles[1]

    @property
    def is_constant(self) -> bool:
        """Whether at least two pixels have data and all have the same value."""
        return self.pixels > 1 and self.low == self.high

    def record(self) -> dict[str, Any]:
        """JSON representation, for manifests."""
        counts = {"counts": {str(value): count for value, count in self.counts.items()}} if self.counts else {}
        figures = {"low": self.low, "high": self.high}
        rounded = [float(f"{figure:.6g}") for figure in self.percentiles]
        return {"pixels": self.pixels, **figures, "percentiles": rounded, **counts}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "BandStatistics":
        """Inverse of `record`."""
        counts = {int(value): count for value, count in record.get("counts", {}).items()}
        low, median, high = record["percentiles"]
        return cls(record["pixels"], record["low"], record["high"], (low, median, high), counts)


class BandGatherer:
    """Accumulates the windows of a band, from top to bottom.

    Attributes:
        pixels: number of pixels with data so far.
    """

    def __init__(self, shape: tuple[int, int], fill: float | None, steps: int = 0) -> None:
        """For a band of `shape`.

        `fill` is the fill value of integer windows, `steps` the number of stored steps per percent to count.
        """
        self._steps = steps
        self._step = -(-max(shape) // PREVIEW_SIDE)
        self._first = self._step // 2 if min(shape) > self._step // 2 else 0
        self._fill = fill
        self._low, self._high = np.inf, -np.inf
        self._counts = np.zeros(256, dtype=np.int64)
        self._counted = False
        self._parts: list[npt.NDArray[Any]] = []
        self.pixels = 0

    def take(self, row: int, values: npt.NDArray[Any], stored: npt.NDArray[Any]) -> None:
        """Add the window that starts at `row`: its values, and their stored representation."""
        known = self._known(values)
        count = int(np.count_nonzero(known))
        self.pixels += count
        if count and values.dtype.kind == "f":
            self._extend(np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None))
        elif count:
            inside = values if count == values.size else values[known]
            self._extend(inside.min(), inside.max())
        if stored.dtype == np.uint8:
            self._counted = True
            self._counts += _histogram(stored, 256)
        elif self._steps:
            self._counted = True
            pixels = _histogram(stored, 100 * self._steps + 1)
            percent = -(-np.arange(len(pixels)) // self._steps)
            self._counts[:101] += np.bincount(percent, weights=pixels).astype(np.int64)
        start = (self._first - row) % self._step
        self._parts.append(values[start :: self._step, self._first :: self._step].copy())

    @property
    def preview(self) -> npt.NDArray[Any]:
        """Every n-th pixel so far, in the dtype of the windows, at most `PREVIEW_SIDE` on a side."""
        return np.concatenate(self._parts)

    def statistics(self) -> BandStatistics:
        """Statistics of all windows so far."""
        if not self.pixels:
            return BandStatistics(0)
        sample = self.preview
        sample = sample[self._known(sample) & np.isfinite(sample)]
        # The preview may miss all pixels with data.
        spread = np.percentile(sample, (1, 50, 99)) if sample.size else (self._low, self._low, self._high)
        low, high, *spread = np.clip([self._low, self._high, *spread], -_FINITE, _FINITE).tolist()
        counts = {int(n): int(self._counts[n]) for n in np.flatnonzero(self._counts)} if self._counted else {}
        return BandStatistics(self.pixels, low, high, (spread[0], spread[1], spread[2]), counts)

    def _known(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        known: npt.NDArray[np.bool_] = ~np.isnan(values) if values.dtype.kind == "f" else values != self._fill
        return known

    def _extend(self, low: Any, high: Any) -> None:
        self._low, self._high = min(self._low, float(low)), max(self._high, float(high))


def _histogram(stored: npt.NDArray[Any], bins: int) -> npt.NDArray[np.int64]:
    """Number of pixels with the values 0 to `bins` - 1 of an array in 8 or 16 bits: int64 (bins,)."""
    return np.rint(cv2.calcHist([stored], [0], None, [bins], [0, bins]).ravel()).astype(np.int64)
