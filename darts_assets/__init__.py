"""`darts_assets`: thaw slumps from satellite scenes, as a Dagster asset graph and as functions on xarray datasets.

`darts_assets.defs` is the code location. It and the functions of the [Python API](api/README.md) are imported on first
access, so that importing a domain room is fast, and the API works without loading Dagster.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

    from darts_assets.api.auxiliary_layers import load_arcticdem, load_tcvis
    from darts_assets.api.opened_store import OpenedStore, open_store
    from darts_assets.api.scene_steps import polygonize, preprocess, segment
    from darts_assets.cubes.tcvis import vintage_for
    from darts_assets.detection import PostprocessParameters
    from darts_assets.features import PreprocessParameters, dem_buffer
    from darts_assets.model import SegmentParameters

    defs: dg.Definitions

__all__ = [
    "OpenedStore",
    "PostprocessParameters",
    "PreprocessParameters",
    "SegmentParameters",
    "dem_buffer",
    "load_arcticdem",
    "load_tcvis",
    "open_store",
    "polygonize",
    "preprocess",
    "segment",
    "vintage_for",
]

_MODULES = {
    "OpenedStore": "api.opened_store",
    "PostprocessParameters": "detection",
    "PreprocessParameters": "features",
    "SegmentParameters": "model",
    "dem_buffer": "features",
    "load_arcticdem": "api.auxiliary_layers",
    "load_tcvis": "api.auxiliary_layers",
    "open_store": "api.opened_store",
    "polygonize": "api.scene_steps",
    "preprocess": "api.scene_steps",
    "segment": "api.scene_steps",
    "vintage_for": "cubes.tcvis",
}
"""Name -> module that defines it."""


def __getattr__(name: str) -> Any:
    if name == "defs":
        from darts_assets.definitions import build_defs

        globals()["defs"] = definitions = build_defs()
        return definitions
    if name in _MODULES:
        globals()[name] = value = getattr(import_module(f"darts_assets.{_MODULES[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "defs", *_MODULES})
