"""Parameters of postprocessing and of the exported products."""

import math
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from darts_assets.parameters import Parameters

QualityLevel = Literal["none", "low", "high"]

DEFAULT_PRODUCTS = ("probabilities", "binarized", "polygonized", "extent", "thumbnail", "chips", "metadata")


DEFAULT_AREA_M2 = 288
"""Square metres of the smallest object by default: the 32 pixels of darts-nextgen, on PlanetScope's grid of 3 m."""

FEWEST_PIXELS = 9
"""Pixels of the smallest object by default, where `DEFAULT_AREA_M2` are fewer: 3 x 3, the least that has an inside."""

_ROUNDING = 1e-6


class PostprocessParameters(Parameters):
    """How probabilities become objects."""

    quality_level: QualityLevel = Field(
        default="low",
        description="Lowest quality of the valid area; `none`: every pixel, eroded only at the tile's border.",
    )
    mask_erosion_size: int = Field(
        default=10, ge=0, description="Radius of the disk that erodes the valid area, pixels; 0: no erosion."
    )
    edge_erosion_size: int | None = Field(
        default=None, ge=0, description="Pixels removed at each side of the tile; null: `mask_erosion_size`, 0: none."
    )
    threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Probability, 0 to 1, above which a pixel is a detection; exact up to four decimals.",
    )
    min_object_size: int | None = Field(
        default=None,
        ge=0,
        description="Smallest size of an object, pixels; smaller 8-connected objects are dropped. Not with "
        "`min_object_area_m2`. 32: as darts-nextgen.",
    )
    min_object_area_m2: float | None = Field(
        default=None,
        ge=0,
        description="Smallest area of an object, square metres; not with `min_object_size`. Default if neither is "
        f"given: {DEFAULT_AREA_M2} m2, but at least {FEWEST_PIXELS} pixels.",
    )
    drop_edge_objects: bool = Field(
        default=False,
        description="Drop objects at the border of the valid area or of the tile, instead of flagging them "
        "(`touches_edge`).",
    )

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if self.min_object_size is not None and self.min_object_area_m2 is not None:
            raise ValueError(
                f"min_object_size ({self.min_object_size} pixels) and min_object_area_m2 ({self.min_object_area_m2:g} "
                "m2) are both given: give one of them, and null for the other"
            )
        return self

    def smallest_object(self, pixel_area: float) -> int:
        """The number of pixels of the smallest object.

        Args:
            pixel_area: square metres of a pixel on the grid.
        """
        if self.min_object_size is not None:
            return self.min_object_size
        if self.min_object_area_m2 is not None:
            return math.ceil(self.min_object_area_m2 / pixel_area - _ROUNDING)
        return max(FEWEST_PIXELS, math.ceil(DEFAULT_AREA_M2 / pixel_area - _ROUNDING))

    def in_force(self, pixel_area: float) -> dict[str, Any]:
        """The parameters on a grid, with the smallest object in pixels (`min_object_size`) and in square metres.

        Args:
            pixel_area: square metres of a pixel on the grid.
        """
        smallest = self.smallest_object(pixel_area)
        return {**self.model_dump(), "min_object_size": smallest, "min_object_area_m2": smallest * pixel_area}

    @property
    def lowest_quality(self) -> int:
        """The lowest `quality_data_mask` value of the valid area: 0, 1 or 2."""
        return get_args(QualityLevel).index(self.quality_level)

    @property
    def border(self) -> int:
        """The number of pixels removed at each side of the tile."""
        return self.mask_erosion_size if self.edge_erosion_size is None else self.edge_erosion_size


class ProductParameters(Parameters):
    """The exported products."""

    products: list[str] = Field(
        default=list(DEFAULT_PRODUCTS),
        description="Products to write: `probabilities binarized polygonized extent thumbnail chips optical dem "
        "tcvis metadata`, or any band by name.",
    )
    write_model_outputs: bool = Field(
        default=False,
        description="Also write each model's probabilities, binarized raster and polygons; needs `keep_models` of "
        "`segmentation`.",
    )
