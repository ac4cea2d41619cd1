"""Random changes of a patch that leave its labels true.

`turn` and `mirror` move the ground under the map's north. Hillshade and shadows then have another sun, the same for
both, and keep their values. Aspect names a direction, so its values turn with the map: by quarter turns exactly; in a
mirror about the direction that the terrain convention calls north, to a few degrees, because the convention's offset
varies that much over a zone. Where a band is 0 there is nothing (`bands.Band.to_model`), and nothing it stays.
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
"""Degrees that a convention adds to a direction from the top of the grid, about."""

_BRIGHTNESS = 0.15
_NOISE = 0.01
_RARELY = 0.1
_SOMETIMES = 0.3


@dataclass(frozen=True)
class Augmenter:
    """The chosen changes.

    Attributes:
        chosen: which.
        bands: names of the channels.
        terrain: the terrain convention of aspect.

    Raises:
        SettingsError: for an unknown change.
    """

    chosen: tuple[str, ...]
    bands: tuple[str, ...]
    terrain: Convention

    def __post_init__(self) -> None:
        unknown = [name for name in self.chosen if name not in AUGMENTATIONS]
        if unknown:
            raise SettingsError(f"unknown augmentation {', '.join(unknown)}; known are {', '.join(AUGMENTATIONS)}")

    def __call__(
        self, inputs: torch.Tensor, labels: torch.Tensor, random: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A changed copy of inputs (bands, rows, columns) and labels (rows, columns); `random` decides alone."""
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
        if "blur" in self.chosen and optical and random.random() < _RARELY:
            inputs[optical] = vision.gaussian_blur(inputs[optical], [5, 5], [float(random.uniform(0.3, 1.2))])
        if "noise" in self.chosen and random.random() < _SOMETIMES:
            shape = inputs[optical].shape
            inputs[optical] += torch.from_numpy(random.normal(0, _NOISE, shape).astype(np.float32))
        inputs = inputs.clamp_(0, 1).mul_(present)
        if "holes" in self.chosen:
            for layer in (TERRAIN, TCVIS):
                if random.random() < _RARELY:
                    inputs[self._channels(layer)] = 0
        return inputs.contiguous(), labels.contiguous()

    def _turn(self, inputs: torch.Tensor, quarters: int) -> torch.Tensor:
        """Turned counter-clockwise by quarter turns."""
        turned = torch.rot90(inputs, quarters, (-2, -1))
        return self._with_aspect(turned, 1, -0.25 * quarters)

    def _mirror(self, inputs: torch.Tensor) -> torch.Tensor:
        """Left and right exchanged: a direction `a` from the top of the grid becomes `-a`."""
        return self._with_aspect(vision.horizontal_flip(inputs), -1, 2 * _OFFSET[self.terrain] / 360)

    def _with_aspect(self, inputs: torch.Tensor, sign: int, add: float) -> torch.Tensor:
        if "aspect" in self.bands:
            channel = self.bands.index("aspect")
            aspect = inputs[channel]
            still = aspect == 0
            if "slope" in self.bands:
                still |= inputs[self.bands.index("slope")] == 0  # DARTS gives flat cells a direction too
            inputs = inputs.clone()
            inputs[channel] = torch.where(still, aspect, (sign * aspect + add) % 1)
        return inputs

    def _channels(self, names: Sequence[str]) -> list[int]:
        return [number for number, name in enumerate(self.bands) if name in names]


def generator(seed: int, epoch: int, number: int) -> np.random.Generator:
    """The randomness of a patch in an epoch: whoever asks, in whatever order, gets the same."""
    return np.random.default_rng([seed, epoch, number])


def order(seed: int, epoch: int, numbers: Sequence[int]) -> npt.NDArray[np.intp]:
    """The numbers in the order of an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(np.asarray(numbers, dtype=np.intp))
