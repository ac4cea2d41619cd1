"""Programs that have only icechunk and xarray open a cube, find its grid, and read the values that were written."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cf_xarray  # noqa: F401 - registers the `cf` accessor
import icechunk
import numpy as np
import odc.geo.xr  # noqa: F401 - registers the `odc` accessor
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

import darts_assets.cubes
from darts_assets.cubes import ChunkData, Cube, CubeSpec, arcticdem_spec, tcvis_spec
from darts_assets.stores.location import StoreLocation
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

Read = Callable[[GeoBox], ChunkData]

README = Path(darts_assets.cubes.__file__).with_name("README.md")
PART = "10m-r0351-c0195"
"""The chunk with the part that the README reads."""


def without_our_package(program: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that a program prints last, run where `darts_assets` cannot be imported."""
    hidden = "import sys; sys.modules['darts_assets'] = None\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", hidden + program, *arguments],
        cwd=folder, env=os.environ | CREDENTIALS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


OPEN_ON_S3 = """
import json, sys, time, urllib.request
import dask.array, icechunk, odc.geo.xr, xarray
storage = icechunk.s3_storage(**json.loads(sys.argv[1]))
started = time.process_time()
cube = xarray.open_zarr(icechunk.Repository.open(storage).readonly_session("main").store, consolidated=False)
seconds = time.process_time() - started
try:
    urllib.request.urlopen(sys.argv[2] + "/the-cube-is-open")
except urllib.error.HTTPError:  # which the server does not have
    pass
"""
LOOK = """
import cf_xarray, dask, json
box = cube.odc.geobox
part = cube.isel(y=slice(359_500, 359_540), x=slice(200_690, 200_720))
print(json.dumps({
    "dims": {name: array.dims for name, array in cube.variables.items()},
    "lazy": all(dask.is_dask_collection(array) for array in cube.variables.values() if array.ndim),
    "crs": box.crs.epsg, "shape": list(box.shape), "transform": list(box.affine)[:6],
    "part": list(part.odc.geobox.affine)[:6],
    "axes": cube.cf.axes, "standard_names": cube.cf.standard_names, "flags": cube.status.attrs,
    "attributes": dict(cube.attrs), "dem": part.dem.values.tolist(), "x": part.xc.values.tolist(),
    "mask": part.arcticdem_data_mask.values.tolist(), "mask_attributes": cube.arcticdem_data_mask.attrs,
    "status": int(cube.status[351, 195]), "dem_attributes": cube.dem.attrs,
}))
"""


@pytest.fixture
def filled(cube: Cube, read_surface: Read) -> Cube:
    for key in (PART, "10m-r0351-c0196"):
        cube.write({key: read_surface(cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key)))}, "test")
    return cube


def check_seen(seen: dict[str, Any], cube: Cube, make_surface: Callable[[GeoBox], np.ndarray]) -> None:
    grid = cube.spec.grid.geobox
    part = grid[359_500:359_540, 200_690:200_720]  # of two chunks
    assert seen["dims"] == {
        "dem": ["y", "x"], "arcticdem_data_mask": ["y", "x"], "status": ["chunk_row", "chunk_col"],
        "yc": ["y"], "xc": ["x"], "spatial_ref": [],
    }  # fmt: skip
    assert seen["lazy"]
    assert (seen["crs"], seen["shape"], seen["transform"]) == (3413, [820_224, 820_224], list(grid.affine)[:6])
    assert seen["part"] == list(part.affine)[:6]
    np.testing.assert_allclose(seen["dem"], make_surface(part), atol=0.00502)
    ours = cube.window(part)
    np.testing.assert_array_equal(np.rint(np.multiply(seen["dem"], 100)), np.rint(ours.dem * 100))
    np.testing.assert_array_equal(seen["mask"], ours.arcticdem_data_mask)
    np.testing.assert_array_equal(seen["x"], ours.x)
    assert seen["axes"] == {"X": ["xc"], "Y": ["yc"]}
    assert seen["standard_names"] == {
        "height_above_reference_ellipsoid": ["dem"], "quality_flag": ["arcticdem_data_mask"],
        "projection_x_coordinate": ["xc"], "projection_y_coordinate": ["yc"],
    }  # fmt: skip
    assert seen["status"] == 1
    assert (seen["flags"]["flag_values"], seen["flags"]["flag_meanings"]) == ([0, 1, 2], "missing data empty")
    assert seen["mask_attributes"]["flag_meanings"] == "no_data data"
    assert seen["dem_attributes"]["units"] == "m"
    assert seen["dem_attributes"]["grid_mapping"] == "spatial_ref"
    assert seen["attributes"]["Conventions"] == "CF-1.11"
    assert seen["attributes"]["title"] == "ArcticDEM mosaic v4.1, 10 m"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = S3Server(tmp_path)
    yield server
    server.stop()


@pytest.mark.slow
def test_opening_a_cube_on_an_object_store_reads_eight_objects_at_most(
    server: S3Server, tmp_path: Path, read_surface: Read, make_surface
) -> None:
    cube = Cube(server.location("darts", "aux", "arcticdem_10m.icechunk"), arcticdem_spec(10))
    for key in (PART, "10m-r0351-c0196"):
        cube.write({key: read_surface(cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key)))}, "test")
    options = {
        "bucket": cube.location.bucket, "prefix": cube.location.prefix, "region": "us-east-1",
        "endpoint_url": server.endpoint, "allow_http": True, "force_path_style": True, "from_env": True,
    }  # fmt: skip
    server.requests()
    program = OPEN_ON_S3 + LOOK.replace('"status"', '"seconds": seconds, "status"')
    seen = without_our_package(program, tmp_path, json.dumps(options), server.endpoint)
    requests = server.requests()
    opening = requests[: next(i for i, request in enumerate(requests) if "the-cube-is-open" in request)]
    assert 3 <= len(opening) <= 8, opening
    assert not [request for request in opening if "/chunks/" in request or "/manifests/" in request]
    assert seen.pop("seconds") < 1
    check_seen(seen, cube, make_surface)


@pytest.mark.parametrize("where", ["here", pytest.param("without our package", marks=pytest.mark.slow)])
def test_the_readme_opens_a_cube_in_a_notebook(
    filled: Cube, tmp_path: Path, make_surface, where: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    store = tmp_path / "darts-data"
    store.mkdir()
    (store / "aux").symlink_to(filled.location.path.parent)
    more = (
        '"elevation": [list(elevation.odc.geobox.affine)[:6], elevation.values.tolist()], '
        '"with_xy": [list(with_xy.odc.geobox.affine)[:6], with_xy.values.tolist()], "status"'
    )
    program = snippet + LOOK.replace('"status"', more)
    if where == "here":
        monkeypatch.chdir(tmp_path)
        exec(program, {})
        seen = json.loads(capsys.readouterr().out)
    else:
        seen = without_our_package(program, tmp_path)
    part = filled.spec.grid.geobox[360_000:360_200, 200_100:200_300]
    for name in ("elevation", "with_xy"):
        grid, values = seen.pop(name)
        assert grid == list(part.affine)[:6]
        np.testing.assert_allclose(values, make_surface(part), atol=0.00502)
    check_seen(seen, filled, make_surface)


def opened(cube: Cube) -> xr.Dataset:
    repository = icechunk.Repository.open(icechunk.local_filesystem_storage(str(cube.location.path)))
    dataset: xr.Dataset = xr.open_zarr(repository.readonly_session("main").store)
    return dataset


@pytest.mark.parametrize("spec", [arcticdem_spec(2), arcticdem_spec(32), tcvis_spec(2024)], ids=lambda spec: spec.name)
def test_every_cube_has_its_grid(tmp_path: Path, spec: CubeSpec) -> None:
    cube = Cube(StoreLocation(str(tmp_path / spec.name)), spec)
    cube.create()
    dataset = opened(cube)
    grid, box = spec.grid.geobox, dataset.odc.geobox
    assert (box.shape, box.crs) == (grid.shape, grid.crs)
    # odc.geo takes the resolution from the first two coordinates: 2e-5 pixels off after 1.4 million columns of degrees.
    np.testing.assert_allclose(grid.wld2pix(*box.pix2wld(*grid.shape[::-1])), grid.shape[::-1], rtol=0, atol=1e-4)
    assert (box == grid) == (grid.crs.epsg == 3413)
    assert dataset.cf.axes == {"X": ["xc"], "Y": ["yc"]}


def test_trends_are_described(tmp_path: Path) -> None:
    cube = Cube(StoreLocation(str(tmp_path / "tcvis_2024.icechunk")), tcvis_spec(2024))
    rng = np.random.default_rng(5)
    values = {v.name: rng.integers(0, 3, (1024, 1024), dtype="uint8") for v in cube.spec.variables}
    cube.write({"2024-r0080-c0123": ChunkData(values)}, "test")
    dataset = opened(cube)
    part = dataset.isel(y=slice(80 * 1024, 81 * 1024), x=slice(123 * 1024, 124 * 1024))
    for name, expected in values.items():
        np.testing.assert_array_equal(part[name], np.where(expected == 0, np.nan, expected))
        assert part[name].attrs["units"] == "1"
    assert dataset.cf["longitude"].attrs["units"] == "degrees_east"
    assert dataset.cf["latitude"].attrs["units"] == "degrees_north"


def test_the_folder_of_a_cube_does_not_open_as_an_empty_dataset(filled: Cube) -> None:
    with pytest.raises(FileNotFoundError):
        xr.open_zarr(str(filled.location.path))
