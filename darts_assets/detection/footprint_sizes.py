"""Sizes of known thaw slumps: the share that a smallest object hides."""

import numpy as np

OUTLINES = 6543
"""Outlines that people have drawn: 2,279 of ARTS 5.0.0, 3,139 of the labels of DARTS, 1,125 of Runge et al. (2022)."""

_AREAS = (50, 100, 200, 300, 500, 700, 900, 1000, 1500, 2000, 3200, 5000, 7000, 10_000, 20_000, 50_000, 100_000)
_SHARES = (
    0.0008, 0.0012, 0.0034, 0.0081, 0.0206, 0.0359, 0.0569, 0.0668, 0.1103, 0.1623, 0.2856, 0.4336, 0.5332, 0.6419,
    0.8077, 0.9309, 0.9743,
)  # fmt: skip
"""Share of the outlines with a smaller geodesic area; `python -m tests.benchmarks.mapping_unit` prints them."""


def share_below(area: float) -> float:
    """The share (0 to 1) of known slumps with less than an area in square metres, interpolated in its logarithm."""
    if area < _AREAS[0]:
        return 0.0
    return float(np.interp(np.log(area), np.log(_AREAS), _SHARES))
