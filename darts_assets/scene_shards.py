"""Shards of a selection of scenes: parts that machines or jobs of an array process independently."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from darts_assets.errors import SettingsError

_ARRAY = tuple(f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "COUNT"))
"""Index of a job in its array, smallest and largest index, number of jobs."""


@dataclass(frozen=True)
class Shard:
    """One of `count` parts of all scenes.

    A hash of its id assigns each scene to a part, so a scene stays in its part when others are added or removed, and
    parts need not know the selection.

    Attributes:
        index: number of this part, from 1.
        count: number of parts.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise SettingsError(f"shard {self}: expected INDEX/COUNT with an index from 1 to the count, such as 3/16")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard `INDEX/COUNT`, such as `3/16`, or that of the job array in the environment (`array`).

        Raises:
            SettingsError: if it is malformed, or the job is not part of an array.
        """
        if text == "array":
            return cls.of_job_array(os.environ)
        index, slash, count = text.partition("/")
        if not (slash and index.strip().isdecimal() and count.strip().isdecimal()):
            raise SettingsError(f"shard {text!r}: expected INDEX/COUNT, such as 3/16, or `array` in a job of an array")
        return cls(int(index), int(count))

    @classmethod
    def of_job_array(cls, environment: Mapping[str, str]) -> "Shard":
        """The shard of a job of a SLURM array with all indices from 0 or 1 on (`--array=0-15`, `--array=1-16`).

        Raises:
            SettingsError: if the job is not part of such an array.
        """
        try:
            own, first, last, count = (int(environment[name]) for name in _ARRAY)
        except (KeyError, ValueError) as error:
            raise SettingsError(f"this job is not part of a SLURM array ({_ARRAY[0]}); use INDEX/COUNT") from error
        if first not in (0, 1) or last - first + 1 != count:
            raise SettingsError(
                f"the job array has {count} jobs with indices from {first} to {last}; expected all indices from 0 or 1 "
                "on, such as --array=1-16, or INDEX/COUNT"
            )
        return cls(own - first + 1, count)

    def has(self, scene_id: str) -> bool:
        """Whether a scene belongs to this part."""
        digest = hashlib.sha256(scene_id.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1
