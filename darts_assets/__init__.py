"""`darts_assets`: thaw slumps from satellite scenes, as a Dagster asset graph.

`darts_assets.defs` is the code location; it is built on first access, so that importing a domain room does not load
Dagster.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import dagster as dg

    defs: dg.Definitions


def __getattr__(name: str) -> Any:
    if name == "defs":
        from darts_assets.definitions import build_defs

        globals()["defs"] = definitions = build_defs()
        return definitions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "defs"})
