"""The Python API, without Dagster; its names are exported by `darts_assets`."""
