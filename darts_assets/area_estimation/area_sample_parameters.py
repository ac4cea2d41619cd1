"""Parameters of the sample from which the area of thaw slumps is estimated."""

import re
from typing import Self

from pydantic import Field, model_validator

from darts_assets.parameters import Parameters

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


class SampleName(Parameters):
    """Which sample of a year."""

    sample: str = Field("1", description="Name of the sample: 1 to 40 lower-case letters, digits and hyphens.")

    @model_validator(mode="after")
    def _check_name(self) -> Self:
        if not _NAME.fullmatch(self.sample):
            raise ValueError(f"sample is {self.sample!r}, expected 1 to 40 lower-case letters, digits and hyphens")
        return self


class SampleParameters(SampleName):
    """Strata, size and points of a sample."""

    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the random points.")
    points: int = Field(500, ge=4, le=20_000, description="Number of points; not used with `target_error`.")
    target_error: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Expected standard error of the area as a fraction of the expected area; determines the number of "
        "points (Olofsson et al. 2014, equation 13).",
    )
    min_points: int = Field(50, ge=2, description="Least number of points in a stratum, if `points` suffice.")
    probability_edges: list[float] = Field(
        [0.7],
        description="Limits between classes of mean probability, ascending, between 0 and 1; empty for one class.",
    )
    near_distance: float = Field(
        100.0, gt=0, le=10_000, description="Metres around detected slumps that are a stratum of their own."
    )
    by_region: bool = Field(True, description="Divide strata by region (grid zone of MGRS).")
    least_region_share: float = Field(
        0.02, ge=0, lt=1, description="A region with less than this share of the area counts to the nearest other one."
    )
    expected_near: float = Field(
        0.05, gt=0, lt=1, description="Expected share of slumps near detected ones, for `target_error`."
    )
    expected_rest: float = Field(0.001, gt=0, lt=1, description="Expected share of slumps elsewhere, likewise.")

    @model_validator(mode="after")
    def _check_edges(self) -> Self:
        edges = self.probability_edges
        if any(not 0 < edge < 1 for edge in edges) or sorted(set(edges)) != edges:
            raise ValueError(f"probability_edges is {edges}, expected ascending numbers between 0 and 1")
        return self
