"""Parameters of the split of a set into training, validation and test parts."""

from typing import Literal, Self

from pydantic import Field, model_validator

from darts_assets.parameters import Parameters

SplitUnit = Literal["region", "sample", "scene", "random", "block"]
SplitBy = Literal["auto", "region", "sample", "scene", "random", "block"]

MOST_FOLDS = 5
"""Number of folds that is chosen where the set has at least as many groups."""

NAMED: tuple[SplitBy, ...] = ("region", "sample", "scene")
"""Units with names that the test part can list."""


class SplitParameters(Parameters):
    """How a set is divided into training, validation and test parts."""

    split_by: SplitBy = Field(
        "auto",
        description="Unit that stays in one part: `region`, `sample` (an image), `scene`, `random` (images in random "
        "order, not balanced) or `block` (squares of ground, for a set of one or a few images). `auto` takes the first "
        "of region, sample and block that gives enough folds.",
    )
    folds: int | None = Field(
        None, ge=2, description="Number of folds; one of them validates. null: as many as the set allows, at most 5."
    )
    fold: int = Field(0, ge=0, description="Index of the fold that validates, from 0.")
    test: list[str] = Field([], description="Regions, samples or scenes (see `split_by`) that only the report uses.")
    distance: float | None = Field(
        None,
        ge=0,
        description="Metres. Images with patches within this distance stay in one part; null: the side of a patch. "
        "With `block`, training patches within it around the validation part are left out; null: those that share "
        "ground.",
    )
    block_size: float | None = Field(
        None, gt=0, description="Side of the blocks of `split_by: block`, metres; null: from the extent of the set."
    )
    seed: int = Field(0, description="Seed of the split, the initial weights, the order and the augmentations.")

    @model_validator(mode="after")
    def _check_split(self) -> Self:
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} of {self.folds}: expected less than the number of folds, from 0")
        if self.test and self.split_by not in NAMED:
            raise ValueError(f"test lists names, but split_by is {self.split_by}: set it to region, sample or scene")
        return self
