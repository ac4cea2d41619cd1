"""Random augmentations of patches that keep the labels valid.

`turn` and `mirror` change the orientation of the ground. Hillshade keeps its values, as if the sun had moved. Aspect
is a direction, so its values change as well: exactly for quarter turns; to a few degrees for mirroring, because the
offset of the terrain convention varies within a zone. Missing values (0, see `bands.Band.to_model`) stay missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import functional as vision

from darts_assets.bands import OPTICAL, TCVIS, TERRAIN, band
from darts_assets.errors import SettingsError
from darts_assets.features import Convention

Augmentation = Literal["turn", "mirror", "brightness", "blur", "noise", "holes"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)

_OFFSET: dict[Convention, float] = {"physical": 0.0, "darts-2025": 94.0, "darts-2026": 94.0}
"""Approximate offset in degrees between the aspect of a convention and the direction from the top of the grid."""

_BRIGHTNESS = 0.15
_NOISE = 0.01
_RARE = 0.1
_FREQUENT = 0.3


@dataclass(frozen=True)
class Augmenter:
    """Applies augmentations.

    Attributes:
        chosen: names of the augmentations.
        bands: names of the channels.
        terrain: terrain convention of aspect.

    Raises:
        SettingsError: for an unknown augmentation.
    """

    chosen: tuple[str, ...]
    bands: tuple[str, ...]
    terrain: Convention

    def __post_init__(self) -> None:
        unknown = [name for name in self.chosen if name not in AUGMENTATIONS]
        if unknown:
            raise SettingsError(f"unknown augmentation {', '.join(unknown)}; expected {', '.join(AUGMENTATIONS)}")

    def __call__(
        self, inputs: torch.Tensor, labels: torch.Tensor, random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented copy of inputs (bands, rows, columns) and labels (rows, columns), determined by `random`."""
        inputs, labels = inputs.clone(), labels.clone()
        if "turn" in self.chosen:
            quarters = int(random.integers(4))
            inputs, labels = self._turn(inputs, quarters), torch.rot90(labels, quarters, (-2, -1))
        if "mirror" in self.chosen and random.random() < 0.5:
            inputs, labels = self._mirror(inputs), vision.horizontal_flip(labels)
        present = inputs != 0
        optical = self._channels(OPTICAL)
        if "brightness" in self.chosen:
            low, high = band("red").valid
            black = -low / (high - low)
            inputs[optical] = black + (inputs[optical] - black) * random.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS)
        if "blur" in self.chosen and optical and random.random() < _RARE:
            inputs[optical] = vision.gaussian_blur(inputs[optical], [5, 5], [float(random.uniform(0.3, 1.2))])
        if "noise" in self.chosen and random.random() < _FREQUENT:
            shape = inputs[optical].shape
            inputs[optical] += torch.from_numpy(random.normal(0, _NOISE, shape).astype(np.float32))
        inputs = inputs.clamp_(0, 1).mul_(present)
        if "holes" in self.chosen:
            for layer in (TERRAIN, TCVIS):
                if random.random() < _RARE:
                    inputs[self._channels(layer)] = 0
        return inputs.contiguous(), labels.contiguous()

    def _turn(self, inputs: torch.Tensor, quarters: int) -> torch.Tensor:
        """Rotate counter-clockwise by quarter turns."""
        turned = torch.rot90(inputs, quarters, (-2, -1))
        return self._with_aspect(turned, 1, -0.25 * quarters)

    def _mirror(self, inputs: torch.Tensor) -> torch.Tensor:
        """Mirror left and right: a direction `a` from the top of the grid becomes `-a`."""
        return self._with_aspect(vision.horizontal_flip(inputs), -1, 2 * _OFFSET[self.terrain] / 360)

    def _with_aspect(self, inputs: torch.Tensor, sign: int, add: float) -> torch.Tensor:
        if "aspect" in self.bands:
            channel = self.bands.index("aspect")
            aspect = inputs[channel]
            still = aspect == 0
            if "slope" in self.bands:
                still |= inputs[self.bands.index("slope")] == 0  # DARTS assigns a direction to flat cells as well
            inputs = inputs.clone()
            inputs[channel] = torch.where(still, aspect, (sign * aspect + add) % 1)
        return inputs

    def _channels(self, names: Sequence[str]) -> list[int]:
        return [number for number, name in enumerate(self.bands) if name in names]


def generator(seed: int, epoch: int, number: int) -> np.random.Generator:
    """Random generator of a patch in an epoch, independent of the order of calls."""
    return np.random.default_rng([seed, epoch, number])


def order(seed: int, epoch: int, numbers: Sequence[int]) -> npt.NDArray[np.intp]:
    """Random order of `numbers` in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(np.asarray(numbers, dtype=np.intp))
