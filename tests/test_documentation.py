"""The documentation against the code: links, anchors, commands, jobs, assets, config keys and settings exist."""

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import dagster as dg
import pytest
import yaml

from darts_assets.cli import cli
from darts_assets.definitions import build_defs
from darts_assets.orchestration.scene_discovery.watched_areas import Watch
from darts_assets.remote.byte_reader import S3Options
from darts_assets.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(
            path
            for room in (".github", "darts_assets", "k8s", "tests")
            for path in (ROOT / room).rglob("*.md")
            if "node_modules" not in path.parts
        ),
    ]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`([^`\n]+)`")
NOT_SETTINGS = {
    f"DARTS_ASSETS_TEST_{name}"
    for name in ("DATA", "CLUSTER_SCENES", "FUZZ_SECONDS", "FUZZ_SEED", "NODE_MODULES", "OUTAGES")
} | {"DARTS_CONFIG"}
"""Environment variables of the tests, and the path of the settings file."""

of_each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def prose(document: Path) -> str:
    return FENCE.sub("", document.read_text())


def commands(document: Path) -> Iterator[tuple[list[str], str]]:
    """Words of each `darts-assets` and `dagster` command, and the text of its here-document."""
    text = document.read_text()
    for language, block in FENCE.findall(text):
        if language == "sh":
            joined = block.replace("\\\n", " ")
            for match in re.finditer(r"^(?!#)(.*\b(?:darts-assets|dagster|dagster-daemon) .*)$", joined, re.MULTILINE):
                heredoc = re.match(r"\n(.*?)^END$", joined[match.end() :], re.MULTILINE | re.DOTALL)
                yield words(match[1]), heredoc[1] if heredoc and "<<'END'" in match[1] else ""
    for code in INLINE.findall(FENCE.sub("", text)):
        if re.match(r"(darts-assets|dagster|dagster-daemon) ", code):
            yield words(code), ""


def words(command: str) -> list[str]:
    """From the program on, to the end of the command."""
    parts = shlex.split(command.partition("<<")[0], comments=True)
    start = next(at for at, part in enumerate(parts) if part in ("darts-assets", "dagster", "dagster-daemon"))
    end = next((at for at, part in enumerate(parts) if part in ("&&", "|") and at > start), len(parts))
    return parts[start:end]


def option(command: list[str], *names: str) -> str | None:
    return next((command[at + 1] for at, word in enumerate(command) if word in names), None)


@cache
def repository() -> dg.RepositoryDefinition:
    return build_defs(Settings()).get_repository_def()


@cache
def fields() -> dict[tuple[str, str], set[str]]:
    """(job, op) -> config keys; asset ops are those of the implicit job."""
    keys = {}
    for job in repository().get_all_jobs():
        for node in job.graph.nodes:
            schema = node.definition.config_schema
            config_fields = getattr(schema.config_type, "fields", None) if schema else None
            keys[job.name, node.name] = set(config_fields or ())
    return keys


def check_config(job: str, run_config: dict) -> None:
    for op, config in run_config.get("ops", {}).items():
        assert (job, op) in fields(), f"{job} has no op {op}"
        assert set(config["config"]) <= fields()[job, op], (
            f"{op} has no config {set(config['config']) - fields()[job, op]}"
        )


@of_each_document
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(prose(document)):
        if link.startswith(("https://", "http://")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{link} does not exist"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{link}: no such heading"


@of_each_document
def test_functions_are_in_the_files_that_are_linked(document: Path) -> None:
    for name, path in re.findall(r"`(\w+)` in \[[^]]+\]\(([^)#]+\.py)\)", document.read_text()):
        assert f"def {name}(" in (document.parent / path).read_text(), f"{name} is not in {path}"


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@of_each_document
def test_commands_exist(document: Path) -> None:
    asset_graph = repository().asset_graph
    names = {
        "job": {job.name for job in repository().get_all_jobs()},
        "sensor": {sensor.name for sensor in repository().sensor_defs},
        "schedule": {schedule.name for schedule in repository().schedule_defs},
    }
    pools = {node.definition.pool for job in repository().get_all_jobs() for node in job.graph.nodes}
    for command, heredoc in commands(document):
        if command[0] == "darts-assets":
            check_own_command(command)
            continue
        if selection := option(command, "--select"):
            assert dg.AssetSelection.from_string(selection).resolve(asset_graph), f"{selection} selects nothing"
        if run_config := option(command, "--config-json"):
            check_config("__ASSET_JOB", json.loads(run_config))
        if job := option(command, "-j"):
            assert job in names["job"]
            check_config(job, yaml.safe_load(heredoc) or {} if heredoc else {})
        if command[1:3] == ["sensor", "start"]:
            assert command[3] in names["sensor"]
        if command[1:4] == ["instance", "concurrency", "set"]:
            assert command[4] in pools
    for kind, name in re.findall(r"\b(job|sensor|schedule)s? `(\w+)`", prose(document)):
        assert name in names[kind], f"there is no {kind} {name}"


def check_own_command(command: list[str]) -> None:
    if len(command) == 1 or command[1] == "...":
        return
    assert command[1] in cli.commands, f"darts-assets has no command {command[1]}"
    known = {name for parameter in cli.commands[command[1]].params if isinstance(parameter, click.Option)
             for name in (*parameter.opts, *parameter.secondary_opts)}  # fmt: skip
    assert {word for word in command if word.startswith("--")} <= known | {"--help"}


@of_each_document
def test_asset_keys_exist(document: Path) -> None:
    keys = {node.key.to_user_string() for node in repository().asset_graph.asset_nodes}
    rooms = {key.partition("/")[0] for key in keys}
    for code in INLINE.findall(prose(document)):
        if re.fullmatch(rf"({'|'.join(rooms)})/[a-z_0-9]+", code):
            assert code in keys, f"there is no asset {code}"


@of_each_document
def test_paths_of_the_repository_exist(document: Path) -> None:
    """Except placeholders such as `tests/a/test_b.py`."""
    for path in re.findall(r"(?<![\w./-])(?:k8s|tests|darts_assets)/(?!a/)[\w./-]*\w", document.read_text()):
        assert (ROOT / path).exists(), f"{path} does not exist"


def test_the_example_of_watched_areas_is_valid(tmp_path: Path) -> None:
    (example,) = [
        block
        for language, block in FENCE.findall((ROOT / "darts_assets/orchestration/README.md").read_text())
        if language == "toml"
    ]
    (tmp_path / "areas.toml").write_text(example)
    watched = Watch(path=str(tmp_path / "areas.toml")).read(S3Options())
    assert [area.name for area in watched.areas] == ["Peel Plateau"]
    assert watched.invalid == {}


@of_each_document
def test_settings_exist(document: Path) -> None:
    known = {f"DARTS_{name.upper()}" for name in Settings.model_fields} | NOT_SETTINGS
    named = set(re.findall(r"\bDARTS_[A-Z0-9_]*[A-Z0-9]\b", document.read_text()))
    assert {name.partition("__")[0] for name in named} <= known  # `__` separates nested keys


def test_every_setting_is_in_the_table() -> None:
    section = (ROOT / "darts_assets/README.md").read_text().partition("## Settings")[2].partition("\n## ")[0]
    first_column = " ".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    assert {f"DARTS_{name.upper()}" for name in Settings.model_fields} == set(re.findall(r"DARTS_\w+", first_column))


def test_every_config_key_is_documented() -> None:
    documented = {
        word for document in DOCUMENTS for code in INLINE.findall(prose(document)) for word in re.findall(r"\w+", code)
    }
    missing = {f"{op}.{key}" for (_, op), keys in fields().items() for key in keys if key not in documented}
    assert not missing


def test_every_job_sensor_and_schedule_is_documented() -> None:
    documented = {code for document in DOCUMENTS for code in INLINE.findall(prose(document))}
    named = [*repository().get_all_jobs(), *repository().sensor_defs, *repository().schedule_defs]
    assert {each.name for each in named if not each.name.startswith("__")} <= documented


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_pictures_are_small() -> None:
    pictures = [path for path in (ROOT / ".github/images").iterdir() if path.is_file()]
    assert pictures
    assert all(path.stat().st_size < 200_000 for path in pictures)


def test_the_package_is_typed_for_others() -> None:
    assert (ROOT / "darts_assets/py.typed").is_file()


def test_the_citation_and_the_changelog_have_the_version_of_the_package() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
