"""A small synthetic Arctic in the formats of the data providers, and a model trained on it."""

from pathlib import Path

from darts_assets.demo.truth import Score, score
from darts_assets.demo.world import World, build_world, holds_other_world, is_demo_store

DEMO_CHECKPOINT = Path(__file__).with_name("slumps_demo.ckpt")
"""A small model trained on other seeds of the demo world by `python -m darts_assets.demo.train`."""

__all__ = ["DEMO_CHECKPOINT", "Score", "World", "build_world", "holds_other_world", "is_demo_store", "score"]
