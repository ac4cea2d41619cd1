"""Settings from the environment."""

from pathlib import Path

import pytest

from darts_assets.definitions import build_defs
from darts_assets.errors import SettingsError, StoreError
from darts_assets.settings import Settings, settings


def test_blanks_and_empty_values_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "STORE": " S3://bucket/prefix\n",
        "STORE_ENDPOINT": "http://127.0.0.1:9000\n",
        "STORE_REGION": "",
        "RAW_STORE": "",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"DARTS_{name}", value)
    current = Settings()
    assert current.root.url == "s3://bucket/prefix"
    assert current.root.endpoint == "http://127.0.0.1:9000"
    assert current.root.region is None
    assert current.raw_store


@pytest.mark.parametrize(("value", "metres"), [("10", 10), (" 2 ", 2)])
def test_a_resolution_of_the_environment_is_a_number(monkeypatch: pytest.MonkeyPatch, value: str, metres: int) -> None:
    monkeypatch.setenv("DARTS_ARCTICDEM_RESOLUTION", value)
    assert Settings().arcticdem_resolution == metres


def test_no_auxiliary_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", "none", " none "):
        monkeypatch.setenv("DARTS_AUXILIARY", value)
        assert Settings().auxiliary == ()


def test_a_mistyped_url_becomes_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARTS_STORE", "s3:/bucket/prefix")
    with pytest.raises(StoreError, match=r"s3:/bucket/prefix is not supported"):
        _ = Settings().root
    monkeypatch.setenv("DARTS_STORE", "data")
    assert Settings().root.url == str(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DARTS_STROE", "DARTS_STROE is not a setting, did you mean DARTS_STORE?"),
        ("darts_model", "darts_model is not a setting, did you mean DARTS_MODELS?"),
        ("DARTS_QQQQQQQQ", "DARTS_QQQQQQQQ is not a setting$"),
    ],
)
def test_an_unknown_setting_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    settings.cache_clear()
    monkeypatch.setenv(name, "/data")
    with pytest.raises(SettingsError, match=hint):
        settings()


def test_variables_of_kubernetes_services_and_of_tests_are_not_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP", "PORT_80_TCP_ADDR")
    for name in (*(f"DARTS_WEBSERVER_{name}" for name in names), "DARTS_ASSETS_TEST_ANYTHING"):
        monkeypatch.setenv(name, "tcp://10.0.0.1:80")
    settings.cache_clear()
    settings()
    settings.cache_clear()


def test_pods_of_steps_are_set_by_json_and_by_nested_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_K8S_GPU_STEPS", '{"pod_spec_config": {"node_selector": {"gpu": "true"}}}')
    monkeypatch.setenv("DARTS_K8S_GPU_STEPS__POD_SPEC_CONFIG__RUNTIME_CLASS_NAME", "nvidia")
    monkeypatch.setenv("DARTS_K8S_GPU_STEPS__JOB_METADATA", '{"labels": {"example.org/queue": "gpu"}}')
    assert settings().k8s_gpu_steps == {
        "pod_spec_config": {"node_selector": {"gpu": "true"}, "runtime_class_name": "nvidia"},
        "job_metadata": {"labels": {"example.org/queue": "gpu"}},
    }
    assert settings().k8s_steps == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("DARTS_K8S_STEPS", "{"), ("DARTS_K8S_STEPS", "[" * 100_000), ("DARTS_K8S_GPU_STEPS__JOB_METADATA", "labels")],
)
def test_pods_of_steps_that_are_no_json_are_named(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name.partition("__")[0]):
        settings()


def test_deeply_nested_json_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_K8S_EXECUTOR", "[" * 100_000)
    settings.cache_clear()
    with pytest.raises(SettingsError, match=r"DARTS_K8S_EXECUTOR: .*it is nested too deeply"):
        settings()


def test_rooms_of_the_store_may_lie_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "STORE": "s3://own/store",
        "STORE_ENDPOINT": "http://127.0.0.1:9000",
        "STORE_REGION": "here",
        "AUX_ROOT": "cubes",
        "RAW_ROOT": "s3://shared/raw/",
        "PRODUCTS_ROOT": "s3://public/products",
        "PRODUCTS_ROOT_ENDPOINT": "http://127.0.0.1:9001",
        "MODELS_ROOT": "s3://public/models",
        "MODELS_ROOT_REGION": "there",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"DARTS_{name}", value)
    root = settings().root
    assert root.url == "s3://own/store"
    assert {name: (place.url, place.endpoint, place.region) for name, place in root.rooms} == {
        "aux": (str(tmp_path / "cubes"), "http://127.0.0.1:9000", "here"),
        "raw": ("s3://shared/raw", "http://127.0.0.1:9000", "here"),
        "products": ("s3://public/products", "http://127.0.0.1:9001", None),
        "models": ("s3://public/models", None, "there"),
    }
    store = (build_defs(settings()).resources or {})["store"]
    assert store.root == root
    assert Settings(store="x", aux_root=None, raw_root=None, products_root=None, models_root=None).root.rooms == ()
