"""Parameters of training samples: how tiles are cut into patches, and which scenes match an image."""

from typing import Self

from pydantic import Field, field_validator, model_validator

from darts_assets.bands import FEATURES, band
from darts_assets.parameters import Parameters


class PatchParameters(Parameters):
    """How tiles are cut, and which patches are kept."""

    bands: list[str] = Field(default=list(FEATURES), min_length=1, description="Bands of the patches, in this order.")
    patch_size: int = Field(default=1024, ge=1, description="Side of a patch, pixels.")
    overlap: int = Field(
        default=16, ge=0, description="Pixels that neighbouring patches share; less than `patch_size`."
    )
    min_visible: float = Field(
        default=0.1, ge=0, le=1, description="Smallest fraction of pixels of a patch that is labelled."
    )
    exclude_nan: bool = Field(default=True, description="Drop patches with missing values in any band.")
    exclude_nopositive: bool = Field(default=False, description="Drop patches without a slump.")

    @field_validator("bands")
    @classmethod
    def _check_bands(cls, names: list[str]) -> list[str]:
        for name in names:
            try:
                band(name)
            except KeyError as error:
                raise ValueError(f"bands: {error.args[0]}") from None
        if len(set(names)) < len(names):
            raise ValueError(f"bands are {', '.join(names)}, expected each once")
        return names

    @model_validator(mode="after")
    def _check_overlap(self) -> Self:
        if self.overlap >= self.patch_size:
            raise ValueError(f"overlap is {self.overlap}, expected less than patch_size ({self.patch_size})")
        return self


class MatchParameters(Parameters):
    """The scenes that may stand for a labelled image."""

    days: float = Field(default=7.0, ge=0, description="Maximum number of days between image and scene.")
    max_cloud_cover: float = Field(default=10.0, ge=0, le=100, description="Maximum cloud cover of the scene, percent.")
    min_overlap: float = Field(
        default=0.7, gt=0, le=1, description="Smallest fraction of the image's footprint that the scene covers."
    )
