"""A window of a stored variable as a lazy array: slicing it reads and decodes only the chunks under the slice.

xarray's own decoding would do, but it has no clipping, and opening a cube of 15 million chunks through dask builds its
task graph first.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing

from darts_assets.bands import Band
from darts_assets.cubes.spec import physical


class DecodedWindow(BackendArray):
    """Rows and columns of a stored array, decoded when they are read; `errors` translates what reading raises."""

    def __init__(
        self,
        array: "zarr.Array[Any]",
        variable: Band,
        rows: slice,
        cols: slice,
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._array = array
        self._variable = variable
        self._errors = errors
        self._ranges = range(rows.start, rows.stop), range(cols.start, cols.stop)
        self.shape = tuple(len(r) for r in self._ranges)
        self.dtype = variable.memory

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._read)

    def _read(self, key: tuple[int | slice, ...]) -> np.ndarray[Any, Any]:
        picked = (own[k] for own, k in zip(self._ranges, key, strict=True))
        selection = tuple(p if isinstance(p, int) else slice(p.start, p.stop, p.step) for p in picked)
        with self._errors():
            stored = np.asarray(self._array[selection])
        return physical(self._variable, stored)
