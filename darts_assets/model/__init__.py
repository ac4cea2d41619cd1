"""Checkpoints and segmentation.

What is exported here does not need torch: where a checkpoint is, what it says of itself, and what an ensemble needs.
What runs a model is imported from its module: `checkpoint.load_model`, `checkpoint.save_checkpoint`,
`device.pick_device`, `segment.segment`.
"""

from darts_assets.model.checkpoint_location import local_checkpoint
from darts_assets.model.header import CheckpointHeader, read_header, required_bands, terrain_convention
from darts_assets.model.segmentation_parameters import SegmentParameters

__all__ = [
    "CheckpointHeader",
    "SegmentParameters",
    "local_checkpoint",
    "read_header",
    "required_bands",
    "terrain_convention",
]
