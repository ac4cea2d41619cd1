"""Objects: the 8-connected components of a mask, numbered in row-major order of their first pixels.

Everything here walks a raster in row windows, so that a full scene costs its labels and no temporaries of their size.
"""

from dataclasses import dataclass
from typing import Literal

import cc3d
import cv2
import numpy as np
import numpy.typing as npt

from darts_assets.tiles import row_windows

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Objects:
    """The objects of a mask.

    Attributes:
        mask: bool (height, width).
        labels: int32 (height, width); 0 is background, objects are 1..n.
        sizes: int64 (n + 1,); pixels per label, `sizes[0]` is the background's.
    """

    mask: Mask
    labels: npt.NDArray[np.int32]
    sizes: npt.NDArray[np.int64]

    @property
    def count(self) -> int:
        """The number of objects."""
        return len(self.sizes) - 1

    def touching(self, mask: Mask) -> Mask:
        """Per label, bool (n + 1,): whether one of its pixels lies in `mask` (height, width)."""
        touched = np.zeros(self.count + 1, dtype=bool)
        for rows in row_windows(self.labels.shape[0]):
            touched[self.labels[rows][self.mask[rows] & mask[rows]]] = True
        return touched

    def keep(self, chosen: Mask) -> None:
        """Remove from `mask`, in place, the pixels of the labels that are not `chosen` (n + 1,)."""
        for rows in row_windows(self.labels.shape[0]):
            window = self.mask[rows]
            window[window] = chosen[self.labels[rows][window]]


def find_objects(mask: Mask) -> Objects:
    """The 8-connected objects of a bool mask (height, width)."""
    labels, count = label(mask)
    sizes = np.zeros(count + 1, dtype=np.int64)
    first = np.full(count + 1, -1, dtype=np.int64)
    # From the bottom up and from each window's end, so that the first pixel of a label is the last one written.
    for rows in reversed(list(row_windows(mask.shape[0]))):
        pixels = np.flatnonzero(mask[rows])[::-1]
        of_pixels = labels[rows].ravel()[pixels]
        sizes += np.bincount(of_pixels, minlength=count + 1)
        first[of_pixels] = pixels + rows.start * mask.shape[1]
    sizes[0] = mask.size - sizes.sum()
    order = np.argsort(first)
    if (np.diff(order) != 1).any():
        rank = np.empty(count + 1, dtype=np.int32)
        rank[order] = np.arange(count + 1, dtype=np.int32)
        for rows in row_windows(mask.shape[0]):
            labels[rows] = rank[labels[rows]]
    return Objects(mask, labels, sizes[order])


def label(mask: Mask, connectivity: Literal[4, 8] = 8) -> tuple[npt.NDArray[np.int32], int]:
    """Labels (int32, 1..n in no promised order) of the connected components of a mask, and their number."""
    # As integers: what cc3d 4.1 does for booleans labels pixels outside the mask where height and width are odd.
    labels, count = cc3d.connected_components(
        mask.view(np.uint8), connectivity=connectivity, out_dtype=np.uint32, return_N=True
    )
    return labels.view(np.int32), int(count)


def beside_edge(extent: Mask) -> Mask:
    """Pixels (bool, shape of `extent`) with an 8-neighbour outside the valid area or outside the tile."""
    kernel = np.ones((3, 3), np.uint8)
    interior = cv2.erode(extent.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return np.bitwise_xor(interior, 1, out=interior).view(bool)
