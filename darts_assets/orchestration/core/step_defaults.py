"""Parameters of the settings file as defaults of the steps' config: the launchpad shows them, run config wins."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args

import dagster as dg
from pydantic import TypeAdapter, ValidationError, create_model

from darts_assets.detection.detection_parameters import QualityLevel
from darts_assets.errors import SettingsError
from darts_assets.settings_file import NO_FILE, SettingsFile, StepValue, unknown_names

C = TypeVar("C", bound=dg.Config)
F = TypeVar("F", bound=Callable[..., Any])

PEER_NAMES: Mapping[tuple[str, str], str] = MappingProxyType(
    {("polygons", "binarization_threshold"): "threshold", ("products", "export_bands"): "products"}
)
"""Table and option of darts-nextgen with the same meaning -> parameter."""

ALTERNATIVES = ("min_object_size", "min_object_area_m2")
"""Parameters of which one is given: one in the table of a family replaces the other in the table of both."""

SHARED = MappingProxyType({"auxiliary": ("preprocessed_tile",), "prepare": ("preprocessed_tile", "raw_scene")})
"""Step, or jobs that prepare data -> tables whose parameters they share, as far as they have them."""


@dataclass(frozen=True)
class StepDefaults:
    """The parameters of a family's steps in the settings file.

    Attributes:
        family: name of the family; empty for assets that belong to none.
        file: the settings file.
    """

    family: str
    file: SettingsFile = NO_FILE

    def configure(self, step: str) -> Callable[[F], F]:
        """Decorator of the function of an asset or op, directly above it: changes the defaults of its config.

        Raises:
            SettingsError: for unknown parameters and invalid values, with file and key.
        """

        def changed(function: F) -> F:
            annotations = function.__annotations__
            annotations["config"] = self.config(step, annotations["config"])
            return function

        return changed

    def config(self, step: str, config: type[C]) -> type[C]:
        """The config class of a step, with the values of the file as defaults; raises as `configure`."""
        values = self.values(step, config)
        fields: dict[str, Any] = {
            name: (Annotated[config.model_fields[name].annotation, config.model_fields[name]], value)
            for name, (value, _) in values.items()
        }
        if not fields:
            return config
        changed = create_model(config.__name__, __base__=config, __module__=config.__module__, **fields)
        changed.__doc__ = config.__doc__
        return changed

    def values(self, step: str, config: type[dg.Config]) -> dict[str, StepValue]:
        """The parameters of a step in the file, by the names of its config; raises as `configure`."""
        values: dict[str, StepValue] = {}
        for table in SHARED.get(step, (step,)):
            own = self.file.parameters(self.family, table)
            values |= {PEER_NAMES.get((table, name), name): _translated(name, given) for name, given in own.items()}
        values = _without_replaced(values, self.family)
        if step in SHARED:
            values = {name: given for name, given in values.items() if name in config.model_fields}
        problems = [
            unknown_names([name], config.model_fields, f"{given.place} is not a parameter of {step}")[0]
            for name, given in values.items()
            if name not in config.model_fields
        ]
        problems = problems or [text for name, given in values.items() for text in _problem(config, name, given)]
        if not problems and values:
            problems = _contradictions(config, {name: given.value for name, given in values.items()})
            problems = [f"{self.file.path}: [{step}] {text}" for text in problems]
        if problems:
            raise SettingsError("; ".join(problems))
        return values


def _without_replaced(values: Mapping[str, StepValue], family: str) -> dict[str, StepValue]:
    """The parameters without those of `ALTERNATIVES` that one in the table of the family replaces."""
    given = [name for name in ALTERNATIVES if name in values]
    own = [name for name in given if f"[{family}." in values[name].place]
    return {name: value for name, value in values.items() if len(own) != 1 or name not in given or name in own}


def _translated(name: str, given: StepValue) -> StepValue:
    """darts-nextgen's numbers of `quality_level` as names."""
    levels = get_args(QualityLevel)
    if name == "quality_level" and type(given.value) is int and given.value in range(len(levels)):
        return StepValue(levels[given.value], given.place)
    return given


def _problem(config: type[dg.Config], name: str, given: StepValue) -> list[str]:
    """A sentence if a value has the wrong type or is out of range."""
    field = config.model_fields[name]
    try:
        checked: Any = Annotated[field.annotation, field]
        TypeAdapter(checked).validate_python(given.value, strict=True)
    except ValidationError as error:
        expected = error.errors()[0]["msg"].removeprefix("Input should be ")
        return [f"{given.place} is {given.value!r}, expected {expected} ({field.description})"]
    return []


def _contradictions(config: type[dg.Config], values: Mapping[str, Any]) -> list[str]:
    """Why the values of a table cannot be used together."""
    try:
        config(**values)
    except dg.Failure as failure:
        return [str(failure.description).removeprefix("SettingsError: ")]
    return []
