"""How a tile is cut into patches and run; no torch here, so that configuration can be checked without it."""

from dataclasses import dataclass
from typing import Literal, get_args

from darts_assets.errors import SettingsError

Precision = Literal["fp32", "bf16", "fp16"]
"""In which numbers a model computes: 24, 8 or 11 significant bits."""

PrecisionSetting = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class SegmentParameters:
    """How a tile is cut into patches and run.

    Attributes:
        patch_size: rows and columns of a patch, in pixels; a multiple of the model's stride (32 for most).
        overlap: pixels that neighbouring patches share and over which they are blended; at most half a patch.
        batch_size: patches that run at a time, or `auto`: what a GPU's free memory holds; on a CPU, where more do not
            run faster, as many as have the pixels of one patch of 1024.
        reflection: pixels by which the tile is extended on each side, by reflection.
        edge_padding: extend by one more pixel, as DARTS does. Without it a tile that the patches fit exactly needs
            one row and one column of patches less; results differ slightly from DARTS.
        device: `cpu`, `cuda`, `cuda:1`, an index, or `auto` (see `device.pick_device`).
        keep_models: yield each model's own probabilities too.
        precision: `auto` is the fastest one that keeps the models' probabilities (see `networks.load_networks`).
        compile: compile the models by `torch.compile`, which takes minutes once per process.

    Raises:
        SettingsError: if a number is out of its range, or a word is not known.
    """

    patch_size: int = 1024
    overlap: int = 256
    batch_size: int | Literal["auto"] = "auto"
    reflection: int = 0
    edge_padding: bool = True
    device: str = "auto"
    keep_models: bool = False
    precision: PrecisionSetting = "auto"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.batch_size != "auto" and (type(self.batch_size) is not int or self.batch_size < 1):
            raise SettingsError(f"batch_size must be `auto` or a number of at least 1, not {self.batch_size!r}")
        for name, lowest in (("patch_size", 1), ("overlap", 0), ("reflection", 0)):
            if getattr(self, name) < lowest:
                raise SettingsError(f"{name} must be at least {lowest}, not {getattr(self, name)}")
        if 2 * self.overlap > self.patch_size:
            raise SettingsError(f"overlap ({self.overlap}) must not exceed half of patch_size ({self.patch_size})")
        if self.precision not in get_args(PrecisionSetting):
            raise SettingsError(f"precision must be auto, fp32, bf16 or fp16, not {self.precision!r}")

    @property
    def padding(self) -> int:
        """Pixels by which the tile is extended on each side."""
        return self.reflection + int(self.edge_padding)
