"""Parameters of preprocessing."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from darts_assets.parameters import Parameters

Convention = Literal["darts-2025", "darts-2026", "physical"]
"""How slope, aspect and hillshade are defined; see `darts_assets.features.conventions`."""


class AuxiliaryParameters(Parameters):
    """The extent of the auxiliary data around a scene."""

    tpi_outer_radius: float = Field(
        default=100.0,
        gt=0,
        allow_inf_nan=False,
        description="Outer radius of the topographic position index, metres; the same for `auxiliary` and "
        "`preprocessed_tile`.",
    )


class PreprocessParameters(AuxiliaryParameters):
    """Parameters of preprocessing; changing any of them changes the features."""

    terrain: Convention = Field(
        default="darts-2025", description="Convention of the terrain features; the one that the model was trained on."
    )
    tpi_inner_radius: float = Field(
        default=0.0,
        ge=0,
        description="Inner radius of the topographic position index, metres; 0: a disk, above 0: a ring.",
    )

    @model_validator(mode="after")
    def _check_ring(self) -> Self:
        if self.tpi_inner_radius >= self.tpi_outer_radius:
            raise ValueError(
                f"tpi_inner_radius is {self.tpi_inner_radius}, expected less than tpi_outer_radius "
                f"({self.tpi_outer_radius})"
            )
        return self


def dem_buffer(parameters: AuxiliaryParameters, resolution: float) -> int:
    """Pixels of `resolution` metres by which an elevation window must exceed the scene's footprint.

    The scene's grid may lie at 45 degrees to that of the elevations, hence the square root of 2.
    """
    return math.ceil(parameters.tpi_outer_radius / resolution * math.sqrt(2))
