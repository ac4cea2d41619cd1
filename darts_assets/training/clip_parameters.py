"""Parameters of samples from scenes of any size."""

from typing import Self

from pydantic import Field, model_validator

from darts_assets.bands import FEATURES
from darts_assets.parameters import Parameters
from darts_assets.training.sample_parameters import PatchParameters


class ClipParameters(Parameters):
    """How scenes of any size are cut, and which patches are kept."""

    bands: list[str] = Field([], description="Bands of the patches, in this order; empty: the features with data.")
    patch_size: int | None = Field(
        None, ge=1, description="Side of a patch, pixels; null: from the size of the first scene of the set."
    )
    overlap: int = Field(0, ge=0, description="Pixels that neighbouring patches share; less than `patch_size`.")
    min_visible: float = Field(0.1, ge=0, le=1, description="Smallest fraction of pixels of a patch that is labelled.")
    exclude_nan: bool = Field(True, description="Drop patches with missing values in any band.")
    exclude_nopositive: bool = Field(False, description="Drop patches without a slump.")

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if self.patch_size is not None:
            self.of(self.patch_size, self.bands or list(FEATURES))  # raises for values that are not possible
        return self

    def of(self, patch_size: int, bands: list[str]) -> PatchParameters:
        """The parameters with a chosen size and bands.

        Raises:
            SettingsError: if they contradict each other.
        """
        given = self.model_dump(include=set(ClipParameters.model_fields))
        return PatchParameters(**{**given, "patch_size": patch_size, "bands": bands})
