"""Parameters of the settings file as defaults of the steps' config."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.partitions import FAMILIES
from darts_assets.orchestration.core.step_defaults import StepDefaults
from darts_assets.orchestration.scene_chain import CONFIGS
from darts_assets.orchestration.scene_chain.polygons import PolygonsConfig
from darts_assets.settings import settings
from darts_assets.settings_file import read_settings_file

FILE = """
[raw_scene]
bands = "all"
[preprocessed_tile]
tpi_outer_radius = 250
quality = {10 = 1}
[segmentation]
batch_size = 4
device = "cuda:1"
[polygons]
quality_level = 2
binarization_threshold = 0.4
[products]
export_bands = ["polygonized", "metadata"]
[planet.polygons]
threshold = 0.6
quality_level = "none"
[planet.preprocessed_tile]
tpi_outer_radius = 50.0
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "darts.toml"
    path.write_text(FILE)
    monkeypatch.setenv("DARTS_CONFIG", str(path))
    return path


def default_config(op: Any) -> dict[str, Any]:
    """The defaults that the launchpad shows."""
    fields = op.config_schema.config_type.fields
    return {name: field.default_value for name, field in fields.items() if field.default_provided}


def test_the_config_of_the_steps_has_the_values_of_the_file(path: Path) -> None:
    defs = build_defs()
    repository = defs.get_repository_def()
    ops = {node.name: node.definition for node in repository.get_job("__ASSET_JOB").graph.nodes}
    sentinel2 = {step: default_config(ops[f"sentinel2__{step}"]) for step in CONFIGS}
    planet = {step: default_config(ops[f"planet__{step}"]) for step in CONFIGS}
    assert sentinel2["raw_scene"] == {"bands": "all", "force": False}
    assert sentinel2["auxiliary"] == {"tpi_outer_radius": 250}
    assert (sentinel2["preprocessed_tile"]["tpi_outer_radius"], sentinel2["preprocessed_tile"]["quality"]) == (
        250, {"10": 1},
    )  # fmt: skip
    assert (sentinel2["segmentation"]["batch_size"], sentinel2["segmentation"]["device"]) == (4, "cuda:1")
    assert (sentinel2["polygons"]["quality_level"], sentinel2["polygons"]["threshold"]) == ("high", 0.4)
    assert sentinel2["products"]["products"] == ["polygonized", "metadata"]
    assert (planet["polygons"]["quality_level"], planet["polygons"]["threshold"]) == ("none", 0.6)
    assert planet["auxiliary"] == {"tpi_outer_radius": 50}
    assert planet["segmentation"] == sentinel2["segmentation"]
    radii = {}
    for job, op in (("prepare_auxiliary", "choose_chunks"), ("prepare_data", "choose_scenes"),
                    ("prepare_planet_data", "choose_scenes")):  # fmt: skip
        config = default_config(defs.resolve_job_def(job).graph.node_named(op).definition)
        radii[job] = config["tpi_outer_radius"]
        assert config.get("bands", "all") == "all"
    assert radii == {"prepare_auxiliary": 250, "prepare_data": 250, "prepare_planet_data": 50}


def test_run_config_wins_over_the_file(path: Path) -> None:
    used = []

    @dg.op
    @StepDefaults("sentinel2", read_settings_file(path)).configure("polygons")
    def polygons(config: PolygonsConfig) -> None:
        used.append(config)

    @dg.job
    def postprocess() -> None:
        polygons()

    config = {"threshold": 0.7, "mask_erosion_size": 3}
    assert postprocess.execute_in_process({"ops": {"polygons": {"config": config}}}).success
    assert postprocess.execute_in_process().success
    first, second = used
    assert (first.threshold, first.mask_erosion_size, first.quality_level) == (0.7, 3, "high")
    assert (second.threshold, second.mask_erosion_size, second.quality_level) == (0.4, 10, "high")
    assert first.lowest_quality == 2
    assert PolygonsConfig().threshold == 0.5, "the class itself is unchanged"


def test_numbers_of_quality_levels_are_those_of_darts_nextgen(path: Path) -> None:
    for number, name in enumerate(("none", "low", "high")):
        path.write_text(f"[polygons]\nquality_level = {number}")
        values = StepDefaults("planet", read_settings_file(path)).values("polygons", PolygonsConfig)
        assert values["quality_level"].value == name


def test_a_family_may_give_the_smallest_object_in_the_other_unit(path: Path) -> None:
    path.write_text("[polygons]\nmin_object_size = 32\n[planet.polygons]\nmin_object_area_m2 = 900.0")
    file = read_settings_file(path)
    configs = {family: StepDefaults(family, file).config("polygons", PolygonsConfig)() for family in FAMILIES}
    smallest = {family: (each.min_object_size, each.min_object_area_m2) for family, each in configs.items()}
    assert smallest == {"sentinel2": (32, None), "planet": (None, 900)}
    assert configs["planet"].smallest_object(9) == 100


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[polygons]\nmin_object_size = 32\nmin_object_area_m2 = 300.0",
            "[polygons] min_object_size (32 pixels) and min_object_area_m2 (300 m2) are both given: give one of them",
        ),
        ("[polygons]\ntreshold = 0.1", "[polygons] treshold is not a parameter of polygons, did you mean threshold?"),
        ("[planet.polygons]\nthreshold = 2", "[planet.polygons] threshold is 2, expected less than or equal to 1 ("),
        ("[polygons]\nthreshold = 'high'", "[polygons] threshold is 'high', expected a valid number (Probability, 0"),
        ("[polygons]\nthreshold = true", "[polygons] threshold is True, expected a valid number ("),
        ("[polygons]\nquality_level = 3", "[polygons] quality_level is 3, expected 'none', 'low' or 'high' ("),
        ("[segmentation]\noverlap = 800", "[segmentation] overlap (800) exceeds half of patch_size (1024)"),
        ("[segmentation]\nbatch_size = 0", "[segmentation] batch_size is 0, expected `auto` or a number of at least"),
        ("[raw_scene]\nforce = 1", "[raw_scene] force is 1, expected a valid boolean (Fetch stored bands again.)"),
        ("[preprocessed_tile]\nterrain = 'x'", "[preprocessed_tile] terrain is 'x', expected 'auto', 'darts-2025'"),
        (
            "[preprocessed_tile]\ntpi_outer_radius = 10\ntpi_inner_radius = 20",
            "tpi_inner_radius is 20.0, expected less",
        ),
    ],
)
def test_a_problem_is_reported_with_file_and_key(path: Path, text: str, problem: str) -> None:
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        build_defs(settings())
    assert str(error.value).startswith(f"{path}: ")
    assert problem in str(error.value)


def test_without_a_file_the_classes_are_those_of_the_package() -> None:
    assert all(
        StepDefaults(family).config(step, config) is config for family in FAMILIES for step, config in CONFIGS.items()
    )


def test_the_example_of_the_documentation_is_valid(path: Path) -> None:
    guide = Path(__file__).parents[3] / "darts_assets" / "README.md"
    path.write_text(guide.read_text().partition("```toml\n")[2].partition("```")[0])
    current = settings()
    build_defs(current)
    assert (current.root.path, current.models) == (
        path.parent / "darts-data", (f"slumps={path.parent}/models/slumps.ckpt",),
    )  # fmt: skip
    assert set(current.file.steps) == {
        "preprocessed_tile", "segmentation", "polygons", "products", "planet.polygons"
    }  # fmt: skip
