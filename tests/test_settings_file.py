"""The settings file: where it is looked for, what it sets, and which problems are reported."""

from pathlib import Path

import pytest

from darts_assets.errors import SettingsError
from darts_assets.redaction import shown
from darts_assets.settings import Settings, settings, source_of


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the file, two levels above the current one."""
    monkeypatch.setenv("DARTS_CONFIG", "")
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    return tmp_path


def write(folder: Path, text: str, name: str = "darts.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_nearest_file_above_is_read_and_the_environment_wins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings().file.path is None
    settings.cache_clear()
    path = write(folder, 'scenes_per_run = 3\nstore_region = "r"\n[settings]\nkeep_replaced_hours = 1')
    monkeypatch.setenv("DARTS_STORE_REGION", "other")
    monkeypatch.setenv("DARTS_SCENES_PER_RUN", " ")  # not set
    current = settings()
    assert (current.scenes_per_run, current.store_region, current.keep_replaced_hours) == (3, "other", 1)
    names = ("scenes_per_run", "store_region", "keep_replaced_hours", "offline")
    assert [source_of(name, current) for name in names] == [
        f"{path}: scenes_per_run", "DARTS_STORE_REGION", f"{path}: keep_replaced_hours", None
    ]  # fmt: skip
    write(folder / "a", "scenes_per_run = 4")
    assert Settings().scenes_per_run == 4
    assert Settings(scenes_per_run=5).scenes_per_run == 5


def test_the_variable_selects_a_file_or_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "scenes_per_run = 3")
    other = write(folder, "scenes_per_run = 7", "other.toml")
    monkeypatch.setenv("DARTS_CONFIG", "../../other.toml")
    assert settings().scenes_per_run == 7
    assert settings().file.path == folder / "a" / "b" / "../../other.toml"
    monkeypatch.setenv("DARTS_CONFIG", "none")
    assert Settings().scenes_per_run == 8
    other.unlink()
    monkeypatch.setenv("DARTS_CONFIG", str(other))
    settings.cache_clear()
    with pytest.raises(SettingsError, match=r"DARTS_CONFIG is .*other.toml, expected a TOML file with settings"):
        settings()


def test_relative_paths_are_relative_to_the_file(folder: Path) -> None:
    write(
        folder,
        """
        store = "data"
        models = "m=a.ckpt, models/b.ckpt, slumps, s3://b/c.ckpt"
        arcticdem = "https://host/api"
        tcvis = "tcvis_{vintage}.tif"
        earth_engine_key_file = "/etc/key.json"
        watch = "~/areas.toml"
        planet = ["deliveries", "s3://b/planet"]
        """,
    )
    current = settings()
    assert current.root.path == folder / "data"
    assert current.models == (f"m={folder}/a.ckpt", f"{folder}/models/b.ckpt", "slumps", "s3://b/c.ckpt")
    assert current.arcticdem == "https://host/api"
    assert current.tcvis == f"{folder}/tcvis_{{vintage}}.tif"
    assert current.earth_engine_key_file == "/etc/key.json"
    assert current.watch == str(Path("~/areas.toml").expanduser())
    assert current.planet == (f"{folder}/deliveries", "s3://b/planet")


def test_values_have_the_types_of_toml_or_of_the_environment(folder: Path) -> None:
    lines = ('auxiliary = "none"', "k8s_executor = {max_concurrent = 2}", "offline = true", "arcticdem_resolution = 2")
    write(folder, "\n".join(lines))
    current = settings()
    assert current.auxiliary == ()
    assert current.k8s_executor == {"max_concurrent": 2}
    assert current.offline
    assert current.arcticdem_resolution == 2


def test_tables_of_steps_and_of_families(folder: Path) -> None:
    path = write(
        folder,
        """
        [settings]
        planet = "deliveries"
        [polygons]
        threshold = 0.4
        min_object_size = 5
        [planet.polygons]
        threshold = 0.6
        """,
    )
    file = settings().file
    assert settings().planet == (f"{folder}/deliveries",)
    assert {name: value for name, (value, _) in file.parameters("sentinel2", "polygons").items()} == {
        "threshold": 0.4, "min_object_size": 5
    }  # fmt: skip
    assert file.parameters("planet", "polygons") == {
        "threshold": (0.6, f"{path}: [planet.polygons] threshold"),
        "min_object_size": (5, f"{path}: [polygons] min_object_size"),
    }
    assert Settings.model_construct().file.path is None, "the demo's settings ignore the file"


def test_names_of_darts_nextgen_that_mean_the_same(folder: Path) -> None:
    path = write(folder, 'ee_project = "mine"\nmodel_files = ["a.ckpt"]')
    current = settings()
    assert current.earth_engine_project == "mine"
    assert current.models == (f"{folder}/a.ckpt",)
    assert source_of("models", current) == f"{path}: model_files"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("stroe = 1", "stroe is not a setting, did you mean store?"),
        ("DARTS_STORE = 'a'", "DARTS_STORE is not a setting, did you mean store?"),
        ("[polygon]", "polygon is not a setting, did you mean polygons?"),
        ("[preprocess]", "preprocess is not a setting, did you mean preprocessed_tile?"),
        ("[planet.polygon]", "[planet.polygon] is not the table of a step, did you mean polygons?"),
        ("[auxiliary]\ntpi_outer_radius = 3", "[auxiliary] is not the table of a step: it shares the parameters of"),
        ("threshold = 0.5", "threshold is a parameter of a step: write it in [polygons]"),
        ("patch_size = 5", "patch_size is a parameter of a step: write it in [segmentation]"),
        ("binarization_threshold = 0.5", "write `threshold` in [polygons]"),
        ("start-date = '2020'", "scenes are selected in the config of the jobs discover_scenes and"),
        ("[darts]", "darts is not a setting; darts-nextgen's table: settings stand at the top level"),
        ("polygons = 3", "polygons is not a table"),
        ("store = 'a'\n[settings]\nstore = 'b'", "store is set at the top level and in [settings]"),
        ("store = 5", "store: Input should be a valid string"),
        ("offline = 'perhaps'", "offline: Input should be a valid boolean"),
        ("scenes_per_run = true", "scenes_per_run is true, expected no truth value"),
        ("arcticdem_resolution = 5", "arcticdem_resolution: Input should be 2, 10 or 32"),
        ("store == 5", "is not valid TOML: Invalid value (at line 1, column 8)"),
        ("a = " + "[" * 100_000, "is not valid TOML: it is nested too deeply"),
    ],
)
def test_a_problem_is_reported_with_the_file_and_the_key(folder: Path, text: str, problem: str) -> None:
    path = write(folder, text)
    with pytest.raises(SettingsError) as error:
        settings()
    assert str(error.value).startswith(str(path))
    assert problem in str(error.value)


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    (folder / "darts.toml").write_bytes(b"store = '\xff'")
    with pytest.raises(SettingsError, match=r"darts.toml is not valid TOML: 'utf-8' codec"):
        settings()


def test_invalid_values_are_attributed_to_the_environment_or_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder, "store = 5\nscenes_per_run = 0")
    monkeypatch.setenv("DARTS_SCENES_PER_RUN", "-1")
    with pytest.raises(SettingsError) as error:
        settings()
    environment, file = str(error.value).split(f"; {path}: ")
    assert "DARTS_SCENES_PER_RUN" in environment
    assert file == "store: Input should be a valid string"


def test_secrets_of_the_file_are_not_shown(folder: Path) -> None:
    write(
        folder,
        """
        notify_webhook = "https://hooks.example.org/T0PSECRET"
        cdse_url = "https://me:pa55word55@h/?token=t0kent0ken"
        planet = ["a", "https://me:0therpassword@h/x"]
        """,
    )
    settings()
    for secret in ("https://hooks.example.org/T0PSECRET", "pa55word55", "t0kent0ken", "0therpassword"):
        assert shown(f"refused: {secret}.") == "refused: ***."
    (folder / "darts.toml").unlink()
    Settings()
    assert shown("pa55word55") == "pa55word55"
