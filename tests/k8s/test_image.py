"""The Dockerfile against what it is made of; building it takes minutes and a registry, and is not done here."""

import re
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions() -> list[list[str]]:
    """The Dockerfile's instructions with their continuation lines joined, stage by stage."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    stages: list[list[str]] = [[]]
    for line in (line.strip() for line in text.splitlines() if line.strip()):
        if line.startswith("FROM "):
            stages.append([])
        stages[-1].append(line)
    return stages


@cache
def needed_by(name: str) -> frozenset[str]:
    """The packages that a package needs, itself among them, as far as they are installed here."""
    found: set[str] = set()
    open_ends = [canonicalize_name(name)]
    while open_ends:
        package = open_ends.pop()
        if package in found:
            continue
        found.add(package)
        try:
            requirements = [Requirement(line) for line in metadata.requires(package) or []]
        except metadata.PackageNotFoundError:
            continue
        open_ends += [
            canonicalize_name(r.name) for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})
        ]
    return frozenset(found)


def test_the_cpu_image_leaves_out_what_needs_torch_and_nothing_else() -> None:
    (line,) = [line for stage in instructions() for line in stage if line.startswith("ARG NEEDS_TORCH=")]
    left_out = set(line.partition("=")[2].strip('"').split())
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert left_out == {name for name in names if "torch" in needed_by(name)}


def test_everything_in_the_images_is_pinned() -> None:
    pins = {
        canonicalize_name(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line
    }
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["cluster"], *extras["test"], "hatchling"]
    needed = frozenset().union(*(needed_by(Requirement(line).name) for line in wanted))
    installed = {canonicalize_name(d.metadata["Name"]) for d in metadata.distributions()}
    assert (needed & installed) - pins <= {"setuptools"}


def test_builds_of_torch_for_cpus_satisfy_the_pins() -> None:
    """As the README states: pip prefers `torch 2.15.0+cpu`, which needs no CUDA libraries, to `torch 2.15.0`."""
    pins = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line]
    for name in ("torch", "torchvision"):
        (pin,) = [pin for pin in pins if pin.name == name]
        (wanted,) = [each for each in map(Requirement, PROJECT["dependencies"]) if each.name == name]
        build = f"{str(pin.specifier).removeprefix('==')}+cpu"
        assert pin.specifier.contains(build)
        assert Version(build) > Version(build.removesuffix("+cpu"))
        assert wanted.specifier.contains(build)


def test_images_run_as_nobody_in_particular_and_are_checked() -> None:
    stages = {stage[0].rpartition(" AS ")[2]: stage for stage in instructions() if stage[0].startswith("FROM")}
    runtime = stages["runtime"]
    assert "USER 10001:10001" in runtime
    assert any(line.startswith("HEALTHCHECK") for line in runtime)
    assert 'ENTRYPOINT ["tini", "--"]' in runtime
    assert "tini" in next(line for line in stages["python"] if "apt-get install" in line).split()
    assert stages["test-runtime"][0].startswith("FROM runtime ")
    assert stages["test-runtime"][-1] == "USER 10001:10001"
    for target, parent in (("cpu", "runtime"), ("gpu", "runtime"), ("test", "test-runtime")):
        assert "org.opencontainers.image.revision" in stages[target][-1], "what changes with each commit comes last"
        assert stages[target][0] == f"FROM {parent} AS {target}"
        assert not any(line.startswith(("USER", "RUN")) for line in stages[target])
        copied = [line.split()[-1] for line in stages[target] if line.startswith("COPY --from")]
        assert copied[:2] == ["/opt/venv", "/opt/darts"], "what changes seldom comes first"
    assert stages["python"][0].startswith("FROM ${BASE}")
    assert next(reversed(stages)) == "cpu", "the target of a plain build"


def test_packages_are_installed_with_their_bytecode() -> None:
    """Pods have them read-only, and would compile them at every start."""
    for stage in instructions():
        if any("/bin/pip install" in line for line in stage):
            assert not any("PYTHONDONTWRITEBYTECODE" in line or "--no-compile" in line for line in stage), stage[0]
