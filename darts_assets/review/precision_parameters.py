"""Parameters of the report of the reviews."""

from pydantic import Field

from darts_assets.parameters import Parameters


class PrecisionParameters(Parameters):
    """What the report of the reviews shows."""

    wanted_precision: float = Field(
        default=0.9, gt=0, lt=1, description="The report gives the lowest threshold whose slumps have this precision."
    )
    bin_width: float = Field(default=0.05, ge=0.01, le=0.5, description="Width of the bins of probability.")
