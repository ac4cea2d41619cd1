"""What the values of a band amount to, and a small copy of them, both gathered while a tile is written.

Checks and pictures live on these: nobody reads a tile of gigabytes again to look at it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

PREVIEW_SIDE = 256
"""Pixels of a preview's longer side, at most: of a full Sentinel-2 scene, every 43rd in both directions."""

_FINITE = float(np.finfo(np.float32).max)  # JSON knows no infinity


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Of a band's values as they were before they were stored, so that what storing clips is seen; NaN and fill aside.

    Attributes:
        pixels: that hold something.
        low: lowest value; 0 where no pixel holds something, like the others. Infinity is the largest float32.
        high: highest value.
        percentiles: of the preview's values: 1 %, 50 % and 99 %.
        counts: stored value -> pixels that have it, the fill included, of bands that are stored in 8 bits; else empty.
    """

    pixels: int
    low: float = 0.0
    high: float = 0.0
    percentiles: tuple[float, float, float] = (0.0, 0.0, 0.0)
    counts: Mapping[int, int] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """About the median of all values."""
        return self.percentiles[1]

    @property
    def is_constant(self) -> bool:
        """Whether all of at least two values are the same."""
        return self.pixels > 1 and self.low == self.high

    def record(self) -> dict[str, Any]:
        """As JSON, for manifests."""
        counts = {"counts": {str(value): count for value, count in self.counts.items()}} if self.counts else {}
        figures = {"low": self.low, "high": self.high}
        rounded = [float(f"{figure:.6g}") for figure in self.percentiles]
        return {"pixels": self.pixels, **figures, "percentiles": rounded, **counts}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "BandStatistics":
        """From a manifest."""
        counts = {int(value): count for value, count in record.get("counts", {}).items()}
        low, median, high = record["percentiles"]
        return cls(record["pixels"], record["low"], record["high"], (low, median, high), counts)


class BandGatherer:
    """Takes a band's windows from top to bottom.

    Attributes:
        pixels: that hold something.
    """

    def __init__(self, shape: tuple[int, int], fill: float | None) -> None:
        """For a band of `shape`; `fill` is the value that windows of integers have where there is nothing."""
        self._step = -(-max(shape) // PREVIEW_SIDE)
        self._first = self._step // 2 if min(shape) > self._step // 2 else 0
        self._fill = fill
        self._low, self._high = np.inf, -np.inf
        self._counts = np.zeros(256, dtype=np.int64)
        self._counted = False
        self._parts: list[npt.NDArray[Any]] = []
        self.pixels = 0

    def take(self, row: int, values: npt.NDArray[Any], stored: npt.NDArray[Any]) -> None:
        """A window that begins at `row`: its values, and those values as they are stored."""
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
            self._counts += np.rint(cv2.calcHist([stored], [0], None, [256], [0, 256]).ravel()).astype(np.int64)
        start = (self._first - row) % self._step
        self._parts.append(values[start :: self._step, self._first :: self._step].copy())

    @property
    def preview(self) -> npt.NDArray[Any]:
        """Every n-th pixel of what was taken, in the windows' dtype; at most `PREVIEW_SIDE` on a side."""
        return np.concatenate(self._parts)

    def statistics(self) -> BandStatistics:
        """Of all that was taken."""
        if not self.pixels:
            return BandStatistics(0)
        sample = self.preview
        sample = sample[self._known(sample) & np.isfinite(sample)]
        # A few pixels may lie between those of the preview.
        spread = np.percentile(sample, (1, 50, 99)) if sample.size else (self._low, self._low, self._high)
        low, high, *spread = np.clip([self._low, self._high, *spread], -_FINITE, _FINITE).tolist()
        counts = {int(n): int(self._counts[n]) for n in np.flatnonzero(self._counts)} if self._counted else {}
        return BandStatistics(self.pixels, low, high, (spread[0], spread[1], spread[2]), counts)

    def _known(self, values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        known: npt.NDArray[np.bool_] = ~np.isnan(values) if values.dtype.kind == "f" else values != self._fill
        return known

    def _extend(self, low: Any, high: Any) -> None:
        self._low, self._high = min(self._low, float(low)), max(self._high, float(high))
