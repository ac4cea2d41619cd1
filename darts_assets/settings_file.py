"""The settings file `darts.toml`: where it is, and what it contains.

Settings stand at the top level or in the table `settings`, parameters of the steps in a table for each step, those of
one family in tables such as `planet.polygons`.
"""

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from darts_assets.errors import SettingsError
from darts_assets.stores.store_layout import FAMILIES

FILE_NAME = "darts.toml"
VARIABLE = "DARTS_CONFIG"
"""Environment variable with the path of the file; `none` for no file."""

STEP_TABLES = ("raw_scene", "preprocessed_tile", "segmentation", "polygons", "products")
"""Tables of the file with parameters; `auxiliary` and the jobs that prepare data share those of the other steps."""

COMMON_TABLES = ("release",)
"""Tables with parameters of assets that belong to no family."""

SETTINGS_TABLE = "settings"


class StepValue(NamedTuple):
    """A parameter of a step in the file.

    Attributes:
        value: as in the file.
        place: file and key, such as `/data/darts.toml: [polygons] threshold`.
    """

    value: Any
    place: str


@dataclass(frozen=True)
class SettingsFile:
    """Content of a settings file, or nothing.

    Attributes:
        path: absolute path of the file; None if there is none.
        settings: the settings, by name.
        steps: table of a step -> its parameters; tables of a family are called `<family>.<step>`.
    """

    path: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def parameters(self, family: str, step: str) -> dict[str, StepValue]:
        """The parameters of a family's step in the file, by name; the family's own table wins."""
        return {
            name: StepValue(value, f"{self.path}: [{table}] {name}")
            for table in (step, f"{family}.{step}")
            for name, value in self.steps.get(table, {}).items()
        }


NO_FILE = SettingsFile()


def settings_path() -> Path | None:
    """The settings file: that of `DARTS_CONFIG`, else the first one in the current folder and its parents.

    Raises:
        SettingsError: if `DARTS_CONFIG` is not a file.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if given.lower() == "none":
        return None
    if given:
        path = Path(given).expanduser().absolute()
        if not path.is_file():
            raise SettingsError(f"{VARIABLE} is {given}, expected a TOML file with settings, or `none` for no file")
        return path
    folder = Path.cwd()
    return next((path for each in (folder, *folder.parents) if (path := each / FILE_NAME).is_file()), None)


def read_settings_file(path: Path) -> SettingsFile:
    """Read a settings file and divide it into settings and parameters of the steps, whose names are not checked.

    Raises:
        SettingsError: if the file cannot be read, or a table of the steps is not a table.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"{path} is not valid TOML: it is nested too deeply") from None
    settings = dict(content)
    steps: dict[str, Mapping[str, Any]] = {}
    problems: list[str] = []
    for step in (*STEP_TABLES, *COMMON_TABLES):
        if step in settings:
            steps[step] = settings.pop(step)
    for family in FAMILIES:
        if isinstance(settings.get(family), dict):  # `planet` can be the setting
            tables = settings.pop(family)
            problems += unknown_names(tables, STEP_TABLES, f"[{family}.{{}}] is not the table of a step")
            steps |= {f"{family}.{name}": table for name, table in tables.items()}
    own = settings.pop(SETTINGS_TABLE, {})
    tables = {**steps, SETTINGS_TABLE: own}
    problems += [
        f"{name} is not a table of parameters" for name, table in tables.items() if not isinstance(table, dict)
    ]
    if not problems:
        problems += [f"{name} is set at the top level and in [{SETTINGS_TABLE}]" for name in own if name in settings]
    if problems:
        raise SettingsError(f"{path}: {'; '.join(problems)}")
    return SettingsFile(path, {**settings, **own}, steps)


def unknown_names(
    names: Iterable[str], known: Iterable[str], problem: str, written: Callable[[str], str] = str
) -> list[str]:
    """A sentence for each of `names` that is not in `known`, with the nearest known name.

    Args:
        names: given names.
        known: the names that exist.
        problem: text with `{}` for the unknown name.
        written: how messages write a known name.
    """
    known = list(known)
    sentences = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name.lower().replace("-", "_").removeprefix("darts_"), known, 1)
            sentences.append(problem.format(name) + (f", did you mean {written(near[0])}?" if near else ""))
    return sentences
