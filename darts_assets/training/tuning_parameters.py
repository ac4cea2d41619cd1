"""Parameters of a search for hyperparameters."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from darts_assets.parameters import Parameters
from darts_assets.training.fit.fit_parameters import FitParameters


class TuningParameters(Parameters):
    """What a study searches."""

    study: str = Field("slumps", description="Name of the study; a study continues.")
    trials: int = Field(20, ge=1, description="Number of finished trials after which the study ends, of all runs.")
    search: dict[str, Any] = Field(
        {
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
            "weight_decay": {"low": 1e-5, "high": 1e-1, "log": True},
        },
        description="Hyperparameter -> a list of values, or `low`, `high`, and `log` or `step`.",
    )
    startup_trials: int = Field(5, ge=0, description="Trials that are not pruned, and whose values are random.")
    storage: str | None = Field(
        None, description="Database URL of the study, such as `postgresql://host/name`; null: a file in the store."
    )

    @field_validator("search")
    @classmethod
    def _check_search(cls, search: dict[str, Any]) -> dict[str, Any]:
        for name, space in search.items():
            if name not in FitParameters.model_fields:
                raise ValueError(f"search has {name!r}, which is not a hyperparameter of training/model")
            limits = isinstance(space, Mapping) and {"low", "high"} <= set(space) <= {"low", "high", "log", "step"}
            if not limits and not (isinstance(space, list) and space):
                raise ValueError(f"search: {name} is {space!r}, expected a list, or low, high, and log or step")
        if not search:
            raise ValueError("search is empty, expected at least one hyperparameter")
        return search
