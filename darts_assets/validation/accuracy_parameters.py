"""Parameters of the comparison of polygons with a reference inventory."""

import re
from typing import Literal, NamedTuple

from pydantic import Field, field_validator

from darts_assets.parameters import Parameters

_RULE = re.compile(r"(any)|(smaller|iou) (\d*\.?\d+)")


class OverlapRule(NamedTuple):
    """When two polygons are a match.

    Attributes:
        kind: `any`: they share at least a square metre; `smaller`: the shared area is at least `least` of the smaller
            one's; `iou`: it is at least `least` of the area of their union.
        least: fraction; 0 for `any`.
    """

    kind: Literal["any", "smaller", "iou"]
    least: float

    def __str__(self) -> str:
        return self.kind if self.kind == "any" else f"{self.kind} {self.least:g}"


def overlap_rule(text: str) -> OverlapRule:
    """Parse a rule such as `any`, `smaller 0.25` or `iou 0.5`; raises ValueError for others."""
    match = _RULE.fullmatch(text.strip())
    least = float(match[3]) if match and match[3] else 0.0
    if match is None or (match[2] and not 0 < least <= 1):
        raise ValueError(f"rules has {text!r}, expected 'any', 'smaller X' or 'iou X' with X above 0 and up to 1")
    return OverlapRule(match[1] or match[2], least)  # type: ignore[arg-type]


class ObjectColumns(Parameters):
    """Columns of a vector file whose layout is not known."""

    id_column: str = Field(
        default="", description="Column with the ids; default: of a known layout, or the number of the row."
    )
    start_column: str = Field(
        default="",
        description="Column with the date, year or range of dates of the imagery; default: of a known layout.",
    )
    end_column: str = Field(default="", description="Column with the last date, if it is not that of `start_column`.")
    class_column: str = Field(default="", description="Column that distinguishes slumps from other outlines.")
    positive: list[str] = Field(
        default=["Positive", "1", "True", "yes"], description="Values of `class_column` that mean a slump, in any case."
    )
    ignored: list[str] = Field(
        default=[],
        description="Values of `class_column` of outlines that count neither as slumps nor as ground without slumps.",
    )


class AccuracyParameters(Parameters):
    """How polygons are compared with a reference inventory."""

    rules: list[str] = Field(
        default=["smaller 0.25", "any", "smaller 0.5", "iou 0.25", "iou 0.5"],
        description="Overlap rules: `any`, `smaller X` (share of the smaller area) or `iou X`. The first one is that "
        "of the layers and of all tables but `by_rule`.",
    )
    years: list[int] = Field(
        default=[], description="Years that are compared; default: all years with objects on both sides."
    )
    year_tolerance: int = Field(
        default=0,
        ge=0,
        le=20,
        description="A reference of imagery of year Y is compared with years Y - this to Y + this.",
    )
    together: bool = Field(
        default=False,
        description="Compare all years as one period, in which a slump counts once with the union of its outlines, "
        "instead of each year on its own.",
    )
    min_coverage: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="An object counts if at least this fraction of it lies within the extent, and a reference if at "
        "least this fraction was observed.",
    )
    size_classes: list[float] = Field(
        default=[1000.0, 3200.0, 10_000.0, 40_000.0], description="Limits of the size classes, m2, ascending."
    )
    block_km: float = Field(
        default=25.0, gt=0, le=2000, description="Side of the square blocks that are resampled, km."
    )
    resamples: int = Field(default=2000, ge=100, le=100_000, description="Number of bootstrap resamples.")
    seed: int = Field(default=0, ge=0, description="Seed of the resampling.")

    @field_validator("rules")
    @classmethod
    def _rules_are_known(cls, rules: list[str]) -> list[str]:
        parsed = [str(overlap_rule(text)) for text in rules]
        if not parsed or len(set(parsed)) < len(parsed):
            raise ValueError("rules must be one or more different rules, such as 'smaller 0.25', 'any', 'iou 0.5'")
        return parsed

    @field_validator("size_classes")
    @classmethod
    def _limits_ascend(cls, limits: list[float]) -> list[float]:
        if any(limit <= 0 for limit in limits) or sorted(set(limits)) != limits:
            raise ValueError(f"size_classes is {limits}, expected different positive areas in m2, ascending")
        return limits

    @property
    def overlap_rules(self) -> list[OverlapRule]:
        """`rules`, parsed."""
        return [overlap_rule(text) for text in self.rules]
