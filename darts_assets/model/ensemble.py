"""What an ensemble of models needs; a single model is an ensemble of one."""

from collections.abc import Sequence

from darts_assets.errors import CheckpointError
from darts_assets.model.header import MODEL_BANDS, CheckpointHeader, Terrain

DEFAULT_TERRAIN: Terrain = "darts-2025"
"""The convention of a checkpoint that names none: the published ones were trained on it."""


def required_bands(headers: Sequence[CheckpointHeader]) -> tuple[str, ...]:
    """The bands that any of the models takes, in the order of `FEATURES` (then other optical bands, then `dem`)."""
    wanted = {band for header in headers for band in header.bands}
    return tuple(band for band in MODEL_BANDS if band in wanted)


def terrain_convention(headers: Sequence[CheckpointHeader]) -> Terrain:
    """The terrain convention on which all models were trained.

    Raises:
        CheckpointError: if they disagree: one tile cannot serve them all.
    """
    conventions = {header.name: header.terrain or DEFAULT_TERRAIN for header in headers}
    if len(set(conventions.values())) > 1:
        named = ", ".join(f"{name} {convention}" for name, convention in conventions.items())
        raise CheckpointError(f"the models of the ensemble were trained on different terrain conventions: {named}")
    return next(iter(conventions.values()), DEFAULT_TERRAIN)


def check_ensemble(headers: Sequence[CheckpointHeader]) -> None:
    """Refuse what is no ensemble.

    Raises:
        CheckpointError: if there is no model, or two have the same name, or their terrain conventions differ.
    """
    if not headers:
        raise CheckpointError("an ensemble needs at least one checkpoint")
    names = [header.name for header in headers]
    if len(set(names)) != len(names):
        raise CheckpointError(f"two models of the ensemble have the same name: {', '.join(names)}")
    terrain_convention(headers)
