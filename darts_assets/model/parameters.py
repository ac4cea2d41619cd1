"""How a tile is cut into patches and run; no torch here, so that configuration can be checked without it."""

from dataclasses import dataclass

from darts_assets.errors import SettingsError


@dataclass(frozen=True)
class SegmentParameters:
    """How a tile is cut into patches and run.

    Attributes:
        patch_size: rows and columns of a patch, in pixels; a multiple of the model's stride (32 for most).
        overlap: pixels that neighbouring patches share and over which they are blended; at most half a patch.
        batch_size: patches that run at a time.
        reflection: pixels by which the tile is extended on each side, by reflection.
        edge_padding: extend by one more pixel, as DARTS does. Without it a tile that the patches fit exactly needs
            one row and one column of patches less; results differ slightly from DARTS.
        device: `cpu`, `cuda`, `cuda:1`, an index, or `auto` (see `device.pick_device`).
        keep_models: yield each model's own probabilities too.

    Raises:
        SettingsError: if a number is out of its range.
    """

    patch_size: int = 1024
    overlap: int = 256
    batch_size: int = 8
    reflection: int = 0
    edge_padding: bool = True
    device: str = "auto"
    keep_models: bool = False

    def __post_init__(self) -> None:
        for name, lowest in (("patch_size", 1), ("overlap", 0), ("batch_size", 1), ("reflection", 0)):
            if getattr(self, name) < lowest:
                raise SettingsError(f"{name} must be at least {lowest}, not {getattr(self, name)}")
        if 2 * self.overlap > self.patch_size:
            raise SettingsError(f"overlap ({self.overlap}) must not exceed half of patch_size ({self.patch_size})")

    @property
    def padding(self) -> int:
        """Pixels by which the tile is extended on each side."""
        return self.reflection + int(self.edge_padding)
