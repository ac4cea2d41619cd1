"""The floors of the house: a room imports only from floors below it; only some know Dagster or torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "darts_assets"
FLOORS = {
    **dict.fromkeys(("__init__", "definitions", "cli"), 6),
    **dict.fromkeys(("demo_runner", "doctor"), 5),
    "orchestration": 4,
    **dict.fromkeys(("settings", "training", "demo"), 3),
    **dict.fromkeys(("sources", "cubes", "features", "model", "detection", "catalog", "inventory", "timings"), 2),
    **dict.fromkeys(("maps", "stores", "earth_engine", "geo", "remote"), 1),
    **dict.fromkeys(("bands", "scene", "tiles", "errors", "parameters"), 0),
}
USES_TORCH = {"model", "training", "demo"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_a_floor() -> None:
    assert {room(path) for path in modules()} <= FLOORS.keys()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below(path: Path) -> None:
    own = room(path)
    for name in imports(path):
        if not name.startswith("darts_assets."):
            continue
        other = name.split(".")[1]
        if other == own or (own == "__init__" and other == "definitions"):
            continue
        neighbour_allowed = FLOORS[own] in (0, 1, 6)
        below = FLOORS[other] < FLOORS[own] or (FLOORS[other] == FLOORS[own] and neighbour_allowed)
        assert below, f"{own} (floor {FLOORS[own]}) imports {name} (floor {FLOORS[other]})"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dagster_and_torch_stay_where_they_belong(path: Path) -> None:
    heads = {name.split(".")[0] for name in imports(path)}
    if FLOORS[room(path)] <= 3:
        assert not any(head.startswith("dagster") for head in heads)
    if room(path) not in USES_TORCH:
        assert heads.isdisjoint({"torch", "segmentation_models_pytorch", "timm"})


def test_definitions_load_without_torch_or_geography() -> None:
    script = (
        "import sys, warnings; warnings.simplefilter('ignore'); import darts_assets; darts_assets.defs;"
        "print([m for m in ('torch', 'rasterio', 'geopandas', 'cv2', 'icechunk', 'odc.geo', 'ee') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
