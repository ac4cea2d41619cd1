"""`darts-assets settings`: what is in force, and where it comes from."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from darts_assets.cli import cli

FILE = """
store = "data"
cdse_url = "https://me:pa55word55@h/api?token=t0kent0ken"
notify_webhook = "https://hooks.example.org/T0PSECRET"
[preprocessed_tile]
tpi_outer_radius = 120.0
[polygons]
quality_level = 1
binarization_threshold = 0.4
[planet.polygons]
threshold = 0.6
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "darts.toml"
    path.write_text(FILE)
    monkeypatch.setenv("DARTS_CONFIG", "")
    monkeypatch.setenv("DARTS_EARTH_SEARCH_URL", "https://me:0therpassword@h/api")
    monkeypatch.setenv("DARTS_OFFLINE", "true")
    monkeypatch.chdir(tmp_path)
    return path


def test_json_has_each_value_and_its_source(path: Path) -> None:
    done = CliRunner().invoke(cli, ["settings", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.output)
    settings, steps = document["settings"], document["steps"]
    assert document["file"] == str(path)
    assert settings["store"] == {"value": str(path.parent / "data"), "source": f"{path}: store"}
    assert settings["offline"] == {"value": True, "source": "DARTS_OFFLINE"}
    assert settings["scenes_per_run"] == {"value": 8, "source": "default"}
    assert settings["notify_webhook"] == {"value": "***", "source": f"{path}: notify_webhook"}
    assert settings["cdse_url"]["value"] == "https://***@h/api?***"
    assert settings["earth_search_url"] == {"value": "https://***@h/api", "source": "DARTS_EARTH_SEARCH_URL"}
    place = f"{path}: [polygons]"
    assert steps["sentinel2"]["polygons"]["threshold"] == {"value": 0.4, "source": f"{place} binarization_threshold"}
    assert steps["planet"]["polygons"]["threshold"]["value"] == 0.6
    assert steps["planet"]["polygons"]["quality_level"] == {"value": "low", "source": f"{place} quality_level"}
    assert steps["planet"]["segmentation"]["patch_size"] == {"value": 1024, "source": "default"}
    assert not any(secret in done.output for secret in ("pa55", "t0ken", "T0PSECRET", "0ther"))


def test_text_has_a_line_for_each_value(path: Path) -> None:
    done = CliRunner().invoke(cli, ["settings"])
    lines = done.output.splitlines()
    assert lines[0] == f"settings file: {path}"
    assert any(line.split() == ["offline", "true", "DARTS_OFFLINE"] for line in lines)
    own = lines[lines.index("[planet.polygons]") + 1]
    assert own.split(maxsplit=2) == ["threshold", "0.6", f"{path}: [planet.polygons] threshold"]
    assert not any(secret in done.output for secret in ("pa55", "t0ken", "T0PSECRET", "0ther"))


def test_problems_are_one_line(path: Path) -> None:
    path.write_text("[polygons]\ntreshold = 1")
    done = CliRunner().invoke(cli, ["settings"])
    assert done.exit_code == 1
    assert done.output == (
        f"Error: {path}: [polygons] treshold is not a parameter of polygons, did you mean threshold?\n"
    )


def test_without_a_file_everything_is_default_or_of_the_environment(path: Path) -> None:
    path.unlink()
    document = json.loads(CliRunner().invoke(cli, ["settings", "--json"]).output)
    assert document["file"] is None
    sources = {each["source"] for each in document["settings"].values()}
    assert sources >= {"default", "DARTS_OFFLINE"}
    assert not any("darts.toml" in source for source in sources)
