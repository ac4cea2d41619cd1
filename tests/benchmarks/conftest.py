import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from odc.geo.geobox import GeoBox


@pytest.fixture(scope="session")
def machine() -> str:
    """What figures were measured on: cores, memory, and what else was running."""
    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({platform.machine()}), {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}"


@pytest.fixture(scope="session")
def write_raster() -> Callable[..., Path]:
    def write(path: Path, values: np.ndarray, box: GeoBox, **options: Any) -> Path:
        with rasterio.open(
            path, "w", driver="GTiff", width=values.shape[1], height=values.shape[0], count=1, dtype=values.dtype,
            crs=str(box.crs), transform=box.affine, **options,
        ) as file:  # fmt: skip
            file.write(values, 1)
        return path

    return write
