"""A script that opens what a store contains with public libraries only: importing this package fails in it.

Reads a JSON object from stdin: `zarr` (paths of Zarr stores), `empty` (paths that are none), `tables` (paths of vector
files), `parquet` (patterns for DuckDB). Prints what it opened, as JSON.
"""

import json
import sys
from typing import Any


class _NotInstalled:
    """Finds no module of the package and none of Dagster."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ("darts_assets", "dagster"):
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)


sys.meta_path.insert(0, _NotInstalled)

import dask.array  # noqa: E402
import duckdb  # noqa: E402
import geopandas as gpd  # noqa: E402
import odc.geo.xr  # noqa: E402, F401
import xarray as xr  # noqa: E402


def zarr_store(path: str) -> dict[str, Any]:
    dataset = xr.open_zarr(path)
    bands = {str(name): band for name, band in dataset.data_vars.items()}
    computed = (
        dataset.load() if (lazy := all(isinstance(b.data, dask.array.Array) for b in bands.values())) else dataset
    )
    return {
        "lazy": lazy,
        "coordinates": sorted(map(str, dataset.coords)),
        "sizes": dict(dataset.sizes),
        "crs": str(dataset.odc.geobox.crs),
        "transform": list(dataset.odc.geobox.transform)[:6],
        "x": [float(dataset["x"][0]), float(dataset["x"][-1])],
        "y": [float(dataset["y"][0]), float(dataset["y"][-1])],
        "bands": {
            name: {
                "dtype": str(band.dtype),
                "valid": int(band.notnull().sum()),
                "mean": float(band.astype("f8").mean()),
            }
            for name, band in computed.data_vars.items()
        },
    }


def error(path: str) -> str | None:
    """The type of the error on opening a path; None if it opens."""
    try:
        xr.open_zarr(path)
    except Exception as error:
        return type(error).__name__
    return None


def table(path: str) -> dict[str, Any]:
    frame = gpd.read_parquet(path) if path.endswith(".parquet") else gpd.read_file(path)
    area = float(frame.to_crs("EPSG:6933").area.sum())
    return {"rows": len(frame), "crs": frame.crs.to_string(), "area": area, "columns": list(frame.columns)}


def main() -> None:
    """Answer the request on stdin."""
    asked = json.load(sys.stdin)
    answer = {
        "zarr": {path: zarr_store(path) for path in asked.get("zarr", [])},
        "empty": {path: error(path) for path in asked.get("empty", [])},
        "tables": {path: table(path) for path in asked.get("tables", [])},
        "parquet": {
            pattern: duckdb.execute("SELECT count(*) FROM read_parquet(?)", [pattern]).fetchall()[0][0]
            for pattern in asked.get("parquet", [])
        },
        "ours": [name for name in sys.modules if name.partition(".")[0] in ("darts_assets", "dagster")],
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
