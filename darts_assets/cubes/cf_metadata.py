"""Metadata with which other programs open a cube: dimension names, coordinates, CRS, CF attributes.

xarray reads a coordinate that has the name of its dimension when it opens a dataset, to build an index. The centres of
pixels are therefore stored as auxiliary coordinates `xc` and `yc`, which are read when they are used, and become an
index on demand (`dataset.set_xindex("xc")`). They are one chunk each: pixel numbers, scaled by the CF attributes.
Measured by `tests/benchmarks/bench_open_cube.py`, cubes of 10 and 2 m (820,224 and 4,100,096 pixels wide and high):

| coordinates | numbers read on opening | CPU of opening | of `odc.geobox` | memory | GeoBox of a part (`isel`) |
|---|---|---|---|---|---|
| none, only `GeoTransform` | 0 | as below | 0.01 s | | wrong: at the corner of the cube |
| `x` and `y`, indexed | 1.6 and 8.2 million | 0.20 and 0.43 s | 0.01 s | 40 and 148 MB | correct |
| `xc` and `yc` (taken) | 0 | 0.08 and 0.07 s | 0.10 and 0.28 s | 12 and 13 MB | correct |

`spatial_ref` has no `GeoTransform`: it does not change when a part of the cube is selected, and rioxarray would then
place a part at the corner of the cube without an error. Other dimension names, which would leave `x` and `y` free for
such coordinates, are not recognized by odc.geo.
"""

import json
from typing import Any

import numpy as np
import zarr
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from zarr.abc.store import Store
from zarr.codecs import BloscCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from darts_assets.bands import TCVIS
from darts_assets.cubes.grid import CHUNK
from darts_assets.cubes.variables import CubeSpec, fetch
from darts_assets.stores.group_attributes import CONVENTIONS

STATUS = "status"

_CRS = "spatial_ref"
_AXES = {"yc": "y", "xc": "x"}
_PIXEL_NUMBERS = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")

_STATUS_ATTRIBUTES = {
    "long_name": f"Status of each chunk of {CHUNK} x {CHUNK} pixels",
    "flag_values": [0, 1, 2],
    "flag_meanings": "missing data empty",
}


def describe(store: Store, spec: CubeSpec) -> bool:
    """Write the metadata into a writable session of a cube; chunks of existing arrays are left unchanged.

    Args:
        store: with the group and the arrays of the cube.
        spec: specification of the cube.

    Returns:
        Whether anything was written; False if the cube already has all of it.
    """
    variables = {v.name: ("y", "x") for v in spec.variables}
    dimensions = {**variables, STATUS: ("chunk_row", "chunk_col"), **{name: (dim,) for name, dim in _AXES.items()}}
    attributes: dict[str, dict[str, Any]] = {
        v.name: v.cf_attributes() | {"grid_mapping": _CRS, "coordinates": " ".join(_AXES)} for v in spec.variables
    }
    for name in attributes.keys() & set(TCVIS):
        attributes[name]["_FillValue"] = 0
    attributes |= {STATUS: _STATUS_ATTRIBUTES, **_axes(spec.grid.geobox), _CRS: _crs(spec.grid.geobox)}
    root = {
        "Conventions": CONVENTIONS,
        "title": spec.title,
        "source": spec.source,
        "coordinates": _CRS,  # xarray makes it a coordinate, where odc.geo and rioxarray look for it
        "darts_assets": spec.layout(),
    }
    created = _create_coordinates(store, spec.grid.geobox)
    names = ["zarr.json", *(f"{name}/zarr.json" for name in attributes)]
    changed = {}
    for name, stored in zip(names, sync(fetch(store, names)), strict=True):
        assert stored is not None
        document = json.loads(stored.tobytes())
        array = name.rpartition("/")[0]
        wanted = document | {"attributes": attributes[array] if array else root}
        if array in dimensions:
            wanted["dimension_names"] = list(dimensions[array])
        if wanted != document:
            changed[name] = json.dumps(wanted).encode()
    for name, content in changed.items():
        sync(store.set(name, default_buffer_prototype().buffer.from_bytes(content)))
    return created or bool(changed)


def _create_coordinates(store: Store, geobox: GeoBox) -> bool:
    """Create the missing ones of `yc`, `xc` and `spatial_ref`."""
    assert geobox.crs is not None
    group = zarr.open_group(store, mode="r+")
    missing = {*_AXES, _CRS} - set(group.array_keys())
    for name, size in zip(_AXES, geobox.shape, strict=True):
        if name in missing:
            numbers = group.create_array(
                name, shape=(size,), chunks=(size,), dtype="int32", fill_value=-1, compressors=_PIXEL_NUMBERS
            )
            numbers[:] = np.arange(size, dtype=np.int32)
    if _CRS in missing:
        group.create_array(_CRS, shape=(), dtype="int32", fill_value=geobox.crs.epsg)  # no chunk to read
    return bool(missing)


def _axes(geobox: GeoBox) -> dict[str, dict[str, Any]]:
    """Attributes of `yc` and `xc`: value = pixel number * scale_factor + add_offset."""
    assert geobox.crs is not None
    names = (
        ("latitude", "longitude") if geobox.crs.geographic else ("projection_y_coordinate", "projection_x_coordinate")
    )
    units = ("degrees_north", "degrees_east") if geobox.crs.geographic else ("m", "m")
    _, _, left, _, _, top = geobox.affine[:6]
    steps = (geobox.resolution.y, geobox.resolution.x)
    return {
        name: {
            "long_name": f"{name[0]} of the centres of pixels", "standard_name": standard_name, "units": unit,
            "axis": dim.upper(), "scale_factor": step, "add_offset": corner + step / 2,
        }
        for (name, dim), standard_name, unit, step, corner in zip(
            _AXES.items(), names, units, steps, (top, left), strict=True
        )
    }  # fmt: skip


def _crs(geobox: GeoBox) -> dict[str, Any]:
    """Attributes of a grid mapping, with the CRS as WKT."""
    attributes = dict(xr_coords(geobox[:2, :2])[_CRS].attrs)
    attributes.pop("GeoTransform", None)
    return attributes
