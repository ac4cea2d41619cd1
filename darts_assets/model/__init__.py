"""Checkpoints and segmentation.

The names exported here work without torch. Import `networks.load_model`, `networks.save_checkpoint`,
`device.pick_device` and `segment.segment`, which need torch, from their modules.
"""

from darts_assets.model.checkpoint_location import local_checkpoint
from darts_assets.model.ensemble import required_bands, terrain_convention
from darts_assets.model.header import CheckpointHeader, read_header
from darts_assets.model.segmentation_parameters import SegmentParameters

__all__ = [
    "CheckpointHeader",
    "SegmentParameters",
    "local_checkpoint",
    "read_header",
    "required_bands",
    "terrain_convention",
]
