"""The settings and parameters in force, and where each comes from, without secrets."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import dagster as dg
from pydantic import SecretStr

from darts_assets.orchestration.catalog.dataset_assets import ReleaseConfig
from darts_assets.orchestration.core.partitions import FAMILIES
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.scene_chain import CONFIGS
from darts_assets.redaction import shown, shown_values
from darts_assets.settings import Settings, source_of
from darts_assets.settings_file import COMMON_TABLES, STEP_TABLES

_CONFIGS: Mapping[str, type[dg.Config]] = {**CONFIGS, "release": ReleaseConfig}
_NO_FAMILY = ""


class InForce(NamedTuple):
    """A value and its source: `default`, an environment variable, or file and key."""

    value: Any
    source: str


@dataclass(frozen=True)
class SettingsReport:
    """What is in force with some settings.

    Raises:
        SettingsError: on access, for unknown parameters and invalid values of steps in the settings file.
    """

    current: Settings

    @cached_property
    def settings(self) -> dict[str, InForce]:
        """The settings by name."""
        return {
            name: InForce(self._value(name), shown(source_of(name, self.current) or "default"))
            for name in Settings.model_fields
        }

    def parameters(self, family: str, step: str) -> dict[str, InForce]:
        """The parameters of a family's step, or of one without a family, by name."""
        config = _CONFIGS[step]
        in_file, defaults = StepDefaults(family, self.current.file).values(step, config), config()
        return {
            name: InForce(*(in_file[name] if name in in_file else (getattr(defaults, name), "default")))
            for name in config.model_fields
        }

    def as_json(self) -> str:
        """JSON document with `file`, `settings`, `steps` (by family and step) and tables without a family.

        Each value has its `source`.
        """
        steps = {
            family: {step: self._documents(self.parameters(family, step)) for step in STEP_TABLES}
            for family in FAMILIES
        }
        path = self.current.file.path
        document = {"file": path and str(path), "settings": self._documents(self.settings), "steps": steps}
        common = {table: self._documents(self.parameters(_NO_FAMILY, table)) for table in COMMON_TABLES}
        return json.dumps(document | common, indent=1)

    def as_text(self) -> str:
        """A line for each value; tables of a family have only the parameters that differ from the first family's."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        path = self.current.file.path
        yield f"settings file: {path or 'none'}"
        yield from self._rows(self.settings)
        first, *others = FAMILIES
        for step in STEP_TABLES:
            yield f"\n[{step}]"
            values = self.parameters(first, step)
            yield from self._rows(values)
            for family in others:
                own = self.parameters(family, step)
                if differing := {name: each for name, each in own.items() if each.value != values[name].value}:
                    yield f"[{family}.{step}]"
                    yield from self._rows(differing)
        for table in COMMON_TABLES:
            yield f"\n[{table}]"
            yield from self._rows(self.parameters(_NO_FAMILY, table))

    def _rows(self, values: dict[str, InForce]) -> Iterator[str]:
        texts = {name: json.dumps(each.value) for name, each in values.items()}
        width = min(44, max(map(len, texts.values())))
        for name, each in values.items():
            yield f"{name:<22} {texts[name]:<{width}} {each.source}"

    def _value(self, name: str) -> Any:
        value = getattr(self.current, name)
        if isinstance(value, SecretStr):
            return "***"
        root = self.current.root
        located = {"store": root.url, **{f"{room}_root": place.url for room, place in root.rooms}}
        return shown_values(located.get(name, value))

    @staticmethod
    def _documents(values: dict[str, InForce]) -> dict[str, Any]:
        return {name: each._asdict() for name, each in values.items()}
