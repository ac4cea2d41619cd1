"""Auxiliary datacubes in Icechunk: static layers that are filled chunk by chunk, where they are needed."""

from darts_assets.cubes.arcticdem import ArcticDemTiles, arcticdem_spec
from darts_assets.cubes.cube import ChunkStatus, Coverage, Cube
from darts_assets.cubes.fill import FilledChunk, ensure
from darts_assets.cubes.grid import CHUNK, CubeGrid
from darts_assets.cubes.history import ExpiredHistory
from darts_assets.cubes.spec import ChunkData, CubeSpec
from darts_assets.cubes.tcvis import TcvisRasters, tcvis_spec, vintage_for
from darts_assets.cubes.tcvis_earth_engine import EarthEngineTcvis

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
    "tcvis_spec",
    "vintage_for",
]
