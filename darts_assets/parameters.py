"""The base of the parameter models, which domain functions and Dagster's config classes share."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from darts_assets.errors import SettingsError


class Parameters(BaseModel):
    """Immutable parameters of one step, given by keyword.

    A subclass declares each parameter once: type, default, limits and a description with its unit.

    Raises:
        SettingsError: for invalid values, with one sentence for each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError("; ".join(map(self._sentence, error.errors()))) from None

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some parameters changed."""
        return type(self)(**{**dict(self), **changes})

    @classmethod
    def _sentence(cls, error: Any) -> str:
        if "error" in error.get("ctx", {}):  # raised by a validator of the subclass
            return str(error["ctx"]["error"])
        name = str(error["loc"][0])
        if name not in cls.model_fields:
            return f"unknown parameter {name}; known are {', '.join(cls.model_fields)}"
        expected = error["msg"].removeprefix("Input should be ")
        return f"{name} is {error['input']!r}, expected {expected} ({cls.model_fields[name].description})"
