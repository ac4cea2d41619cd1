"""What a user can choose about preprocessing."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from darts_assets.errors import SettingsError

Convention = Literal["darts-2025", "darts-2026", "physical"]
"""How slope, aspect and hillshade are defined; see `darts_assets.features.conventions`."""


@dataclass(frozen=True, slots=True)
class PreprocessParameters:
    """Parameters of preprocessing; changing any of them changes the features.

    Attributes:
        terrain: convention of the terrain features; it must be the one that the model was trained with.
        tpi_outer_radius: outer radius of the topographic position index, metres.
        tpi_inner_radius: inner radius, metres; 0 for a disk, above 0 for a ring.

    Raises:
        SettingsError: for an unknown convention, or radii that enclose nothing.
    """

    terrain: Convention = "darts-2025"
    tpi_outer_radius: float = 100.0
    tpi_inner_radius: float = 0.0

    def __post_init__(self) -> None:
        if self.terrain not in get_args(Convention):
            raise SettingsError(f"terrain is {self.terrain!r}, expected one of {', '.join(get_args(Convention))}")
        if not (math.isfinite(self.tpi_outer_radius) and self.tpi_outer_radius > 0):
            raise SettingsError(f"tpi_outer_radius is {self.tpi_outer_radius}, expected a positive length in metres")
        if not 0 <= self.tpi_inner_radius < self.tpi_outer_radius:
            raise SettingsError(
                f"tpi_inner_radius is {self.tpi_inner_radius}, expected 0 or more and less than "
                f"tpi_outer_radius ({self.tpi_outer_radius})"
            )


def dem_buffer(parameters: PreprocessParameters, resolution: float) -> int:
    """Pixels of `resolution` metres by which an elevation window must exceed the scene's footprint.

    The scene's grid may lie at 45 degrees to that of the elevations, hence the square root of 2.
    """
    return math.ceil(parameters.tpi_outer_radius / resolution * math.sqrt(2))
