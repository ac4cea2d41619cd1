"""The code location as Dagster sees it, and the settings that shape it."""

import warnings

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.errors import ChunksFailedError, CubeError, SettingsError, SourceUnavailableError
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, data_version
from darts_assets.orchestration.core.partitions import CHUNK_KEYS, PLANET, SENTINEL2, STEPS
from darts_assets.settings import Settings, settings


def test_names_that_instances_scripts_and_users_refer_to_are_kept() -> None:
    """Records of Dagster, schedules of sites and scripts refer to these; they stood at commit `ae68dc1`."""
    defs = build_defs(Settings())
    repository = defs.get_repository_def()
    assert {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()} >= {
        "aux/arcticdem_chunk", "aux/tcvis_chunk", "catalog/detections", "catalog/stac", "inventory/rts",
        "inventory/slumps", "planet/auxiliary", "planet/polygons", "planet/preprocessed_tile", "planet/products",
        "planet/raw_scene", "planet/segmentation", "runs/timings", "sentinel2/auxiliary", "sentinel2/polygons",
        "sentinel2/preprocessed_tile", "sentinel2/products", "sentinel2/raw_scene", "sentinel2/segmentation",
        "training/dataset", "training/images", "training/matches", "training/model", "training/planet_samples",
        "training/report", "training/sentinel2_samples",
    }  # fmt: skip
    assert {key.to_user_string() for key in repository.asset_graph.asset_check_keys} >= {
        f"{family}/{check}"
        for family in ("sentinel2", "planet")
        for check in (
            "polygons:geometries_valid", "polygons:scene_was_seen", "preprocessed_tile:auxiliary_coverage",
            "preprocessed_tile:feature_ranges", "raw_scene:bands_complete", "raw_scene:scene_coverage",
            "segmentation:probabilities_plausible", "segmentation:probabilities_valid",
        )
    }  # fmt: skip
    assert {job.name for job in repository.get_all_jobs()} >= {
        "discover_planet_images", "discover_scenes", "expire_cube_history", "planet_chain", "prepare_auxiliary",
        "prepare_data", "prepare_planet_data", "publish_catalog", "register_scenes", "sentinel2_chain",
        "update_inventory",
    }  # fmt: skip
    assert {sensor.name for sensor in repository.sensor_defs} >= {
        "failed_runs", "new_planet_images", "new_sentinel2_scenes",
    }  # fmt: skip
    assert {schedule.name for schedule in repository.schedule_defs} >= {
        "publish_catalog_nightly", "update_inventory_nightly",
    }  # fmt: skip
    assert (defs.resources or {}).keys() >= {
        "catalogs", "cubes", "deliveries", "models", "notifier", "raw", "scenes", "step_values", "store", "tiles",
        "vectors", "watch",
    }  # fmt: skip


def test_no_step_uses_the_default_io_manager() -> None:
    """It writes to `DAGSTER_HOME`, which pods cannot write to; results of checks and optional outputs need none."""
    jobs = build_defs(Settings()).get_repository_def().get_all_jobs()
    ops = {node.name: node for job in jobs for node in job.all_node_defs if isinstance(node, dg.OpDefinition)}
    assert {"register", "find_scenes", "sentinel2__polygons", "aux__arcticdem_chunk"} <= ops.keys()
    assert [
        f"{op.name}: {output.name}"
        for op in ops.values()
        for output in op.output_defs
        if output.io_manager_key == "io_manager"
        and not (output.dagster_type.is_nothing or not output.is_required or op.name.endswith("_checks"))
    ] == []


def test_every_asset_is_described_owned_and_grouped() -> None:
    graph = build_defs(Settings()).resolve_asset_graph()
    keys = {family.key(step) for family in (SENTINEL2, PLANET) for step in STEPS} | {
        dg.AssetKey(["aux", f"{c}_chunk"]) for c in ("arcticdem", "tcvis")
    }
    per_image = {dg.AssetKey(["training", f"{family.name}_samples"]) for family in (SENTINEL2, PLANET)}
    per_image |= {dg.AssetKey(["training", f"{kind}_samples"]) for kind in ("polygon", "reviewed")}
    partitioned = per_image | {dg.AssetKey(["training", "folds"])}
    training = per_image | {
        dg.AssetKey(["training", name])
        for name in ("images", "scenes", "matches", "dataset", "model", "report", "folds", "cross_validation", "tuning")
    }
    yearly_estimates = (["area_estimation", "sample"], ["area_estimation", "estimate"])
    inventory = {dg.AssetKey(["inventory", name]) for name in ("rts", "slumps", "chips", "review_report")}
    yearly = {dg.AssetKey(path) for path in (["inventory", "rts"], *yearly_estimates)}
    others = inventory | {
        dg.AssetKey(path)
        for path in (
            ["runs", "timings"],
            ["validation", "accuracy"],
            *yearly_estimates,
            *(["dataset", name] for name in ("level1", "level2", "coverage", "release")),
            *(["catalog", name] for name in ("stac", "detections", "map")),
        )
    }
    assert set(graph.get_all_asset_keys()) == keys | training | others
    for key in keys | training | others:
        node = graph.get(key)
        assert node.description
        assert node.owners == ["team:darts"]
        assert node.kinds
        assert node.code_version
        assert node.group_name == ("auxiliary_chunks" if key.path[0] == "aux" else key.path[0])
        assert (node.partitions_def is not None) == (key in yearly | keys | partitioned)


def test_steps_can_be_selected_by_their_tags_and_are_checked() -> None:
    graph = build_defs(Settings()).resolve_asset_graph()
    for family in (SENTINEL2, PLANET):
        for step in STEPS:
            tags = graph.get(family.key(step)).tags
            assert (tags["darts/family"], tags["darts/step"]) == (family.name, step)
        checked = {key.asset_key.path[-1] for key in graph.asset_check_keys if key.asset_key.path[0] == family.name}
        assert checked == {"raw_scene", "preprocessed_tile", "segmentation", "polygons"}


def test_chunks_are_filled_many_in_a_run_and_within_the_quotas_of_their_services() -> None:
    defs = build_defs(Settings())
    graph = defs.resolve_asset_graph()
    job = defs.resolve_job_def("prepare_auxiliary")
    for layer, pool in {"arcticdem": "arcticdem", "tcvis": "earth_engine"}.items():
        policy = graph.get(CHUNK_KEYS[layer]).backfill_policy
        assert policy is not None
        assert policy.max_partitions_per_run == 64
        assert graph.get(CHUNK_KEYS[layer]).pools == {pool}
        assert job.graph.node_dict[f"fill_{layer}_chunks"].definition.pool == pool


def test_loading_says_nothing() -> None:
    with warnings.catch_warnings():
        for kind in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("error", kind)
        build_defs(Settings())


def test_only_what_runs_models_asks_for_a_gpu() -> None:
    graph = build_defs(Settings())
    asking = {
        asset.key.path[-1]
        for asset in graph.assets or []
        if isinstance(asset, dg.AssetsDefinition) and "nvidia.com/gpu" in str(asset.op.tags)
    }
    assert asking == {"segmentation", "model", "report", "folds", "tuning"}


@pytest.mark.parametrize(
    ("kind", "name"), [("in_process", "in_process"), ("multiprocess", "multiprocess"), ("k8s", "k8s")]
)
def test_the_executor_is_a_setting(kind: str, name: str) -> None:
    executor = build_defs(Settings(executor=kind)).executor
    assert isinstance(executor, dg.ExecutorDefinition)
    assert executor.name == name


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_MODELS", "a=/models/a.ckpt, /models/b.ckpt")
    monkeypatch.setenv("DARTS_AUXILIARY", "none")
    monkeypatch.setenv("DARTS_RAW_STORE", "false")
    monkeypatch.setenv("DARTS_EARTH_ENGINE_PROJECT", "permafrost")
    current = Settings()
    assert current.models == ("a=/models/a.ckpt", "/models/b.ckpt")
    assert current.auxiliary == ()
    assert current.raw_store is False
    assert current.earth_engine_project == "permafrost"
    cubes = (build_defs(current).resources or {})["cubes"]
    assert cubes.access.earth_engine_project == "permafrost"
    assert (cubes.arcticdem, cubes.tcvis) == ("https://stac.pgc.umn.edu/api/v1/", None), "public, or with an account"


def test_senseless_settings_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_ARCTICDEM_RESOLUTION", "5")
    settings.cache_clear()
    with pytest.raises(SettingsError, match="DARTS_ARCTICDEM_RESOLUTION"):
        settings()
    settings.cache_clear()


def test_the_data_version_depends_on_code_parameters_and_inputs_only() -> None:
    one = data_version("1", {"a": 1, "b": 2}, raw="x")
    assert one == data_version("1", {"b": 2, "a": 1}, raw="x")
    assert len({one, data_version("2", {"a": 1, "b": 2}, raw="x"), data_version("1", {"a": 1, "b": 2}, raw="y")}) == 3


def test_our_errors_become_failures_without_a_retry() -> None:
    with pytest.raises(dg.Failure) as caught, domain_call(dg.get_dagster_logger()):
        raise SettingsError("DARTS_STORE is wrong")
    assert caught.value.description == "SettingsError: DARTS_STORE is wrong"
    assert caught.value.allow_retries is False


def test_only_what_may_pass_is_tried_again() -> None:
    down, corrupt = SourceUnavailableError("down"), CubeError("corrupt")
    for error in (down, ChunksFailedError("cube", {"a": down, "b": corrupt}, [])):
        with pytest.raises(dg.RetryRequested), domain_call(dg.get_dagster_logger()):
            raise error
    with pytest.raises(dg.Failure) as caught, domain_call(dg.get_dagster_logger()):
        raise ChunksFailedError("cube", {"b": corrupt}, [])
    assert caught.value.allow_retries is False
    assert "b: corrupt" in str(caught.value.description)


def test_metadata_keeps_types() -> None:
    values = as_metadata({"flag": True, "count": 3, "share": 0.5, "name": "x", "table": {"a": 1}, "unknown": None})
    assert {name: type(value).__name__ for name, value in values.items()} == {
        "flag": "BoolMetadataValue", "count": "IntMetadataValue", "share": "FloatMetadataValue",
        "name": "TextMetadataValue", "table": "JsonMetadataValue",
    }  # fmt: skip
