"""The layout of the package and of its tests: floors, cycles, file names, and what may be imported where."""

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "darts_assets"
ORCHESTRATION = PACKAGE / "orchestration"

FLOORS = {
    **dict.fromkeys(("__init__", "definitions", "cli", "demo_runner", "area_mapping"), 6),
    **dict.fromkeys(("doctor", "settings_report"), 5),
    **dict.fromkeys(("orchestration", "api"), 4),
    **dict.fromkeys(("settings", "store_migration", "training", "demo"), 3),
    **dict.fromkeys(("sources", "cubes", "features", "model", "detection", "catalog", "inventory", "timings"), 2),
    "validation": 2,
    "dataset": 3,
    **dict.fromkeys(
        ("maps", "plots", "true_colour", "qgis_styles", "settings_file", "stores", "earth_engine", "geo", "remote"), 1
    ),
    "review": 1,
    "web_map": 2,
    "area_estimation": 2,
    **dict.fromkeys(
        ("bands", "scene", "tiles", "errors", "host_resources", "parameters", "redaction", "scene_shards"), 0
    ),
}
"""Room (folder or module directly below the package) -> floor; a room imports only from floors below it."""

NEIGHBOURS_MAY_MEET = {0, 1, 6}
"""Floors whose rooms may import each other, without cycles."""

RUNS_MODELS = {"model", "training", "demo"}
MODEL_LIBRARIES = {"torch", "torchvision", "segmentation_models_pytorch", "pytorch_lightning", "torchmetrics", "timm"}
REPEATED_NAMES = {"__init__", "assets", "tiles", "regions"}
"""`tiles` is the tile of all rooms (floor 0) and its storage (`stores/`)."""


@cache
def modules() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def imports(path: Path) -> frozenset[str]:
    """Full names of all that a file imports, at any depth of its code."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def file_of(name: str) -> Path | None:
    """The file of the package that a full name refers to, if any."""
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return None
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def arrows(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Imports among the entries directly below a folder: importing entry, imported entry, and a description."""
    for path in modules():
        if folder not in path.parents:
            continue
        own = path.relative_to(folder).parts[0].removesuffix(".py")
        for name in imports(path):
            file = file_of(name)
            if file is None or folder not in file.parents:
                continue
            other = file.relative_to(folder).parts[0].removesuffix(".py")
            if other != own:
                yield own, other, f"{path.relative_to(PACKAGE)} imports {name}"


def test_every_room_has_a_floor() -> None:
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()} == FLOORS.keys()


def test_a_room_imports_only_from_floors_below() -> None:
    assert [
        f"{text}: floor {FLOORS[own]} imports floor {FLOORS[other]}"
        for own, other, text in arrows(PACKAGE)
        if FLOORS[other] > FLOORS[own] or (FLOORS[other] == FLOORS[own] and FLOORS[own] not in NEIGHBOURS_MAY_MEET)
    ] == []


@pytest.mark.parametrize(
    "folder",
    sorted({path.parent for path in modules()}),
    ids=lambda folder: str(folder.relative_to(ROOT)),
)
def test_entries_of_a_folder_do_not_import_each_other_in_a_circle(folder: Path) -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    lines = []
    for own, other, text in arrows(folder):
        graph[own].add(other)
        lines.append((own, other, text))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        steps = set(zip(circle[1:], circle[:-1], strict=True))
        pytest.fail("\n".join(text for own, other, text in lines if (own, other) in steps))


def test_orchestration_has_at_most_twelve_entries() -> None:
    entries = {path.relative_to(ORCHESTRATION).parts[0] for path in modules() if ORCHESTRATION in path.parents}
    assert len(entries - {"__init__.py"}) <= 12


def test_orchestration_stands_on_core_and_ends_in_jobs_and_schedules() -> None:
    found = [(own, other, text) for own, other, text in arrows(ORCHESTRATION)]
    assert [text for own, _, text in found if own == "core"] == []
    assert [text for own, other, text in found if other in ("jobs", "schedules") and own not in ("schedules",)] == []


def test_only_orchestration_and_the_commands_import_dagster() -> None:
    assert [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in modules()
        if FLOORS[room := path.relative_to(PACKAGE).parts[0].removesuffix(".py")] <= 3 or room == "api"
        for name in imports(path)
        if name.startswith("dagster")
    ] == []


def test_private_names_of_dagster_are_used_in_one_file() -> None:
    assert {
        str(path.relative_to(PACKAGE))
        for path in modules()
        for name in imports(path)
        if name.startswith("dagster") and any(part.startswith("_") for part in name.split("."))
    } <= {"orchestration/core/dagster_compat.py"}


def test_torch_is_imported_only_where_a_model_runs() -> None:
    assert [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in modules()
        if path.relative_to(PACKAGE).parts[0] not in RUNS_MODELS
        for name in imports(path)
        if name.split(".")[0] in MODEL_LIBRARIES
    ] == []


OPENERS = {
    "geo/vector_files.py": "the formats of vector files",
    "remote/raster_files.py": "the formats of rasters",
    "detection/cog.py": "writes products",
    "detection/export.py": "reads the products that it wrote",
    "dataset/coverage.py": "writes and reads the days of the data set",
    "demo/train.py": "reads the outlines of the demo's own world",
    "demo_runner.py": "reads the outlines of the demo's own world",
}
"""Files that open rasters or vector files by GDAL -> why; the input of others goes through the first two."""


def test_files_of_others_are_opened_by_two_functions() -> None:
    opening = re.compile(
        r"\brasterio\.open\(|\bDatasetReader\(|\.read_file\((?!href, stac_io)|pyogrio\.(read|list|open)"
    )
    assert {str(path.relative_to(PACKAGE)) for path in modules() if opening.search(path.read_text())} == OPENERS.keys()


LARGE = (
    "torch", "rasterio", "geopandas", "cv2", "icechunk", "odc.geo", "ee", "xarray", "pandas", "pyarrow", "scipy",
    "matplotlib", "shapely", "pyproj", "zarr", "kubernetes",
)  # fmt: skip
"""Libraries that take tenths of a second to load, or seconds: for each pod of Kubernetes."""


def test_definitions_load_no_large_library() -> None:
    script = (
        "import sys, warnings; warnings.simplefilter('ignore'); import darts_assets; darts_assets.defs;"
        f"print([module for module in {LARGE} if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_file_names_are_unique() -> None:
    names = Counter(path.stem for path in modules() if path.stem not in REPEATED_NAMES)
    assert [name for name, count in names.items() if count > 1] == []


OTHER_SUBJECTS = {
    "test_architecture": "the layout itself",
    "test_documentation": "the READMEs",
    "catalog/test_on_s3": "a room on S3",
    "cubes/test_s3": "a room on S3",
    "orchestration/core/test_on_s3": "a room on S3",
    "stores/test_object_store": "a room on S3",
    "training/fit/test_object_store": "a room on S3",
    "cubes/test_killed": "processes that are killed",
    "cubes/test_offline": "a room without network",
    "cubes/test_filled_from_tiles": "a cube from ArcticDEM tiles, across modules",
    "cubes/test_remote_tiles": "tiles behind HTTP, across modules",
    "demo/test_checkpoint": "the checkpoint that the package ships",
    "demo/test_notebooks": "the notebooks that the package ships",
    "features/test_reference": "the peer's outputs",
    "model/test_streaming": "memory and windows, across modules",
    "sources/planet/test_delivery_faults": "damaged deliveries, across modules",
    "sources/planet/test_pixels": "pixels of deliveries, across modules",
    "sources/stac/test_search_faults": "a service that fails, across modules",
    "training/fit/test_peel": "a training run on the peer's sample",
    "training/fit/test_report": "the report of a training run",
    "training/test_archive_set": "from label archives to a set, across modules",
    "training/test_matched": "from matched scenes to a set, across modules",
}
"""Test files that are not about one module -> their subject."""

NOT_MIRRORED = {"benchmarks", "e2e", "fuzz", "k8s", "sample_data", "servers"}


def test_tests_mirror_the_package() -> None:
    tests = [path.relative_to(ROOT / "tests").with_suffix("") for path in (ROOT / "tests").rglob("test_*.py")]
    others = {
        str(test)
        for test in tests
        if test.parts[0] not in NOT_MIRRORED
        and not any(
            entry.exists()
            for name in [test.name.removeprefix("test_")]
            for entry in (PACKAGE / test.parent / f"{name}.py", PACKAGE / test.parent / name)
        )
        and not (test.name == f"test_{test.parent.name}" and (PACKAGE / test.parent).is_dir())
    }
    assert others == OTHER_SUBJECTS.keys()


RIDDLES = re.compile(r"found = |\bsaid\b|(?<!there) is no |makes no sense|gives way|\b(tells|told)\b", re.IGNORECASE)
"""Wording that readers have to guess at or that personifies programs; "there is no" is plain."""


def test_the_package_and_its_readmes_use_plain_words() -> None:
    assert [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in [*modules(), *ROOT.rglob("README.md")]
        if path.relative_to(ROOT).parts[0] in ("README.md", "darts_assets", "k8s", "tests")
        and "node_modules" not in path.parts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if RIDDLES.search(line)
    ] == []
