"""Auxiliary datacubes in Icechunk: static layers that are filled chunk by chunk, on demand."""

from darts_assets.cubes.arcticdem import ArcticDemTiles, arcticdem_spec
from darts_assets.cubes.cube import ChunkStatus, Coverage, Cube
from darts_assets.cubes.fill import FilledChunk, ensure
from darts_assets.cubes.grid import CHUNK, CubeGrid
from darts_assets.cubes.history import ExpiredHistory
from darts_assets.cubes.migration import migrate_cube
from darts_assets.cubes.tcvis import TcvisRasters, tcvis_spec, vintage_for
from darts_assets.cubes.tcvis_earth_engine import EarthEngineTcvis
from darts_assets.cubes.variables import ChunkData, CubeSpec

__all__ = [
    "CHUNK",
    "ArcticDemTiles",
    "ChunkData",
    "ChunkStatus",
    "Coverage",
    "Cube",
    "CubeGrid",
    "CubeSpec",
    "EarthEngineTcvis",
    "ExpiredHistory",
    "FilledChunk",
    "TcvisRasters",
    "arcticdem_spec",
    "ensure",
    "migrate_cube",
    "tcvis_spec",
    "vintage_for",
]
