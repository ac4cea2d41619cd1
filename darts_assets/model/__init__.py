"""Checkpoints and segmentation.

The names exported here work without torch. Import `networks.load_model`, `networks.save_checkpoint`,
`device.pick_device` and `segment.segment`, which need torch, from their modules.
"""

from darts_assets.model.checkpoint_location import local_checkpoint, open_checkpoint
from darts_assets.model.header import (
    CheckpointHeader,
    ModelDescription,
    read_description,
    read_header,
    required_bands,
    terrain_convention,
)
from darts_assets.model.segmentation_parameters import SegmentParameters

__all__ = [
    "CheckpointHeader",
    "ModelDescription",
    "SegmentParameters",
    "local_checkpoint",
    "open_checkpoint",
    "read_description",
    "read_header",
    "required_bands",
    "terrain_convention",
]
