"""The machine: versions, drivers, memory, processors, GPUs, room for temporary files."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from darts_assets.doctor.findings import Finding
from darts_assets.errors import SettingsError

_GIB = 2**30
_MEMORY = 5 * _GIB  # a full scene through all steps in one process has taken 3.9
_TEMPORARY = 3 * _GIB  # a scene of JPEG 2000 files takes 1
_SHOWN = ("dagster", "torch", "rasterio", "icechunk", "zarr", "obstore")
_DRIVERS = {"JP2OpenJPEG": "scenes of CDSE", "COG": "products", "GTiff": "rasters"}
_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def check_versions() -> Iterator[Finding]:
    """Python, packages, and whether they are those that are asked for."""
    shown = [f"{name} {version(name)}" for name in _SHOWN if _is_installed(name)]
    said = f"darts_assets {version('darts_assets')}, Python {platform.python_version()}, {', '.join(shown)}"
    wrong = list(_wrong_packages())
    if wrong:
        yield Finding("versions", "fail", f"{said}; {'; '.join(wrong)}", "pip install -c constraints.txt -e .")
    else:
        yield Finding("versions", "ok", said)


def check_geography() -> Iterator[Finding]:
    """GDAL with the drivers that are needed, and PROJ with its database."""
    import pyproj
    import rasterio
    from rasterio.crs import CRS
    from rasterio.env import Env

    said = f"GDAL {rasterio.__gdal_version__}, PROJ {pyproj.proj_version_str}"
    with Env() as env:
        drivers = env.drivers()
    if missing := [f"{name} ({purpose})" for name, purpose in _DRIVERS.items() if name not in drivers]:
        yield Finding("GDAL", "fail", f"{said}: no driver {', '.join(missing)}", "Install rasterio from PyPI's wheels.")
        return
    try:
        same = CRS.from_epsg(3413).to_epsg() == 3413 and pyproj.CRS(3413).to_epsg() == 3413
    except Exception as error:
        same, said = False, f"{said}: {error}"
    if not same:
        set_by = [name for name in ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA") if name in os.environ]
        advice = f"unset {' '.join(set_by)}" if set_by else "Install rasterio and pyproj from PyPI's wheels."
        yield Finding("GDAL", "fail", f"{said}: EPSG:3413 is not found in PROJ's database", advice)
        return
    yield Finding("GDAL", "ok", said)


def check_memory() -> Iterator[Finding]:
    """Processors and memory, of the container if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _memory()
    said = f"{cores} processors, {memory / _GIB:.1f} GiB of memory"
    if memory < _MEMORY:
        yield Finding("machine", "warn", said, "A full Sentinel-2 scene takes up to 4 GiB.")
    else:
        yield Finding("machine", "ok", said)


def check_temporary() -> Iterator[Finding]:
    """Room for files that are copied before they are read."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    said = f"{folder}: {free / _GIB:.1f} GiB free"
    if free < _TEMPORARY:
        yield Finding("temporary files", "warn", said, "Each running scene of CDSE takes 1 GB; set TMPDIR elsewhere.")
    else:
        yield Finding("temporary files", "ok", said)


def check_device(device: str) -> Iterator[Finding]:
    """The GPU that is asked for, or those that there are; PyTorch is loaded only where there may be one."""
    present = _has_nvidia()
    if device in ("auto", "cpu") and not present:
        yield Finding("device", "ok", "no GPU: models run on the CPU")
        return
    from darts_assets.model.device import describe_gpus, pick_device

    try:
        chosen = pick_device(device)
    except SettingsError as error:
        gpu = "this machine has a GPU" if present else "this machine has no GPU of NVIDIA's"
        advice = f"torch {version('torch')}, and {gpu}: see its driver, install PyTorch for CUDA, or take device: cpu."
        yield Finding("device", "fail", str(error), advice)
        return
    gpus = describe_gpus()
    if not gpus:
        advice = "" if device == "cpu" else "Install a build of PyTorch for CUDA; models run on the CPU otherwise."
        said = f"this machine has a GPU that torch {version('torch')} cannot use"
        yield Finding("device", "warn" if advice else "ok", said, advice)
        return
    yield Finding("device", "ok", f"{', '.join(gpus)}; models run on {chosen}")


def _wrong_packages() -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in requires("darts_assets") or []:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        if not _is_installed(wanted.name):
            yield f"{wanted.name} is not installed"
        elif not wanted.specifier.contains(found := version(wanted.name), prereleases=True):
            yield f"{wanted.name} {found} is installed, {wanted.specifier} was expected"


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _memory() -> int:
    """Bytes: of the machine, or what the container may have of it."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in map(Path, _CGROUP):
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no container, or "max"
            continue
    return min(limits)


def _has_nvidia() -> bool:
    return sys.platform != "darwin" and (any(Path("/dev").glob("nvidia[0-9]*")) or bool(shutil.which("nvidia-smi")))
