"""Checks of the machine: versions, drivers, memory, processors, GPUs, temporary space."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version

from darts_assets.doctor.findings import Finding
from darts_assets.errors import SettingsError
from darts_assets.host_resources import GIB, may_have_gpu, memory_limit, processors

_MEMORY = 5 * GIB  # measured: 3.9 GiB for a full scene through all steps in one process
_TEMPORARY = 3 * GIB  # the JPEG 2000 files of a scene take 1 GiB
_SHOWN = ("dagster", "torch", "rasterio", "icechunk", "zarr", "obstore")
_DRIVERS = {"JP2OpenJPEG": "scenes of CDSE", "COG": "products", "GTiff": "rasters"}


def check_versions() -> Iterator[Finding]:
    """Check the versions of Python and of the required packages."""
    shown = [f"{name} {version(name)}" for name in _SHOWN if _is_installed(name)]
    message = f"darts_assets {version('darts_assets')}, Python {platform.python_version()}, {', '.join(shown)}"
    problems = list(_package_problems())
    if problems:
        yield Finding("versions", "fail", f"{message}; {'; '.join(problems)}", "pip install -c constraints.txt -e .")
    else:
        yield Finding("versions", "ok", message)


def check_geography() -> Iterator[Finding]:
    """Check the drivers of GDAL and the database of PROJ."""
    import pyproj
    import rasterio
    from rasterio.crs import CRS
    from rasterio.env import Env

    message = f"GDAL {rasterio.__gdal_version__}, PROJ {pyproj.proj_version_str}"
    with Env() as env:
        drivers = env.drivers()
    if missing := [f"{name} ({purpose})" for name, purpose in _DRIVERS.items() if name not in drivers]:
        yield Finding(
            "GDAL", "fail", f"{message}: missing drivers: {', '.join(missing)}", "Install the binary wheel of rasterio."
        )
        return
    try:
        valid = CRS.from_epsg(3413).to_epsg() == 3413 and pyproj.CRS(3413).to_epsg() == 3413
    except Exception as error:
        valid, message = False, f"{message}: {error}"
    if not valid:
        set_by = [name for name in ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA") if name in os.environ]
        advice = f"unset {' '.join(set_by)}" if set_by else "Install the binary wheels of rasterio and pyproj."
        yield Finding("GDAL", "fail", f"{message}: EPSG:3413 is missing from the PROJ database", advice)
        return
    yield Finding("GDAL", "ok", message)


def check_memory() -> Iterator[Finding]:
    """Check processors and memory of the container or machine."""
    memory = memory_limit()
    message = f"{processors()} processors, {memory / GIB:.1f} GiB of memory"
    if memory < _MEMORY:
        yield Finding("machine", "warn", message, "A full Sentinel-2 scene needs up to 4 GiB.")
    else:
        yield Finding("machine", "ok", message)


def check_temporary() -> Iterator[Finding]:
    """Check the space for temporary copies of scene files."""
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    message = f"{folder}: {free / GIB:.1f} GiB free"
    if free < _TEMPORARY:
        yield Finding(
            "temporary files", "warn", message, "Each running CDSE scene needs 1 GB. Set TMPDIR to another folder."
        )
    else:
        yield Finding("temporary files", "ok", message)


def check_device(device: str) -> Iterator[Finding]:
    """Check the requested device; load PyTorch only if the machine may have a GPU."""
    present = may_have_gpu()
    if device in ("auto", "cpu") and not present:
        yield Finding("device", "ok", "no GPU: models run on the CPU")
        return
    from darts_assets.model.device import describe_gpus, pick_device

    try:
        chosen = pick_device(device)
    except SettingsError as error:
        gpu = "an NVIDIA GPU is present" if present else "no NVIDIA GPU is present"
        advice = f"torch {version('torch')}; {gpu}. Check its driver, install PyTorch for CUDA, or use --device cpu."
        yield Finding("device", "fail", str(error), advice)
        return
    gpus = describe_gpus()
    if not gpus:
        advice = "" if device == "cpu" else "Install PyTorch for CUDA; otherwise models run on the CPU."
        message = f"torch {version('torch')} cannot use the GPU of this machine"
        yield Finding("device", "warn" if advice else "ok", message, advice)
        return
    yield Finding("device", "ok", f"{', '.join(gpus)}; models run on {chosen}")


def _package_problems() -> Iterator[str]:
    from packaging.requirements import Requirement

    for text in requires("darts_assets") or []:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not _is_installed(requirement.name):
            yield f"{requirement.name} is not installed"
        elif not requirement.specifier.contains(installed := version(requirement.name), prereleases=True):
            yield f"{requirement.name} {installed} is installed, expected {requirement.specifier}"


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
