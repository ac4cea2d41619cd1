"""CPU time and memory of opening cubes of the whole Arctic with xarray: lazy coordinates, and indexed ones beside them.

Run: `pytest -n 0 -s tests/benchmarks/bench_open_cube.py`. CPU time includes that of Icechunk's threads, and no imports.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from odc.geo.xr import xr_coords

from darts_assets.cubes import Cube, arcticdem_spec
from darts_assets.cubes.repository import CubeRepository
from darts_assets.stores.location import StoreLocation

OPEN = """
import json, sys, time
import dask.array, icechunk, odc.geo.xr, xarray

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmHWM"))

memory, started = peak(), time.process_time()
storage = icechunk.local_filesystem_storage(sys.argv[1])
cube = xarray.open_zarr(icechunk.Repository.open(storage).readonly_session("main").store)
opened = time.process_time()
after = peak()
cube.odc.geobox
geobox = time.process_time()
print(json.dumps({"open": opened - started, "geobox": geobox - opened, "MB": after - memory}))
"""


@pytest.mark.parametrize("resolution", [10, 2])
@pytest.mark.parametrize("coordinates", ["lazy", "indexed"])
def test_opening_takes_less_than_a_second_of_cpu(tmp_path: Path, resolution: int, coordinates: str) -> None:
    cube = Cube(StoreLocation(str(tmp_path / "cube")), arcticdem_spec(resolution))
    cube.create()
    if coordinates == "indexed":
        repository = CubeRepository(cube.location).open()
        assert repository is not None
        session = repository.writable_session("main")
        axes = xr.Dataset(coords=xr_coords(cube.spec.grid.geobox, dims=("y", "x"))).drop_vars("spatial_ref")
        axes.to_zarr(session.store, mode="a", consolidated=False, encoding={n: {"chunks": axes[n].shape} for n in "yx"})
        session.commit("indexed coordinates")
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(cube.location.path)], capture_output=True, text=True, check=True
    )
    seconds = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{resolution} m, {coordinates}: {seconds}")
    if coordinates == "lazy":
        assert seconds["open"] < 1
