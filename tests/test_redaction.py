"""Text without credentials; nothing that is printed, logged or recorded contains those of the settings."""

import logging
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.remote_representation.external_data import RepositorySnap
from pydantic import SecretStr

from darts_assets.cli import cli
from darts_assets.definitions import build_defs
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.metadata import as_metadata
from darts_assets.orchestration.core.partitions import CHUNK_PARTITIONS
from darts_assets.redaction import link_base, shown
from darts_assets.settings import Settings, settings

ROOTS = ("AUX_ROOT", "RAW_ROOT", "PRODUCTS_ROOT", "MODELS_ROOT")

QUIET: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("https://h/a.tif?sig=S&x=1 failed", "https://h/a.tif?*** failed"),
        ("(https://h/a?sig=S,T), https://h/b?sig=S.", "(https://h/a?***), https://h/b?***."),
        ("'/vsicurl/https://h/a.tif?sig=S' not", "'/vsicurl/https://h/a.tif?***' not"),
        ("http://user:word@h/a.tif", "http://***@h/a.tif"),
        ("postgresql+psycopg2://u:p@ss@db/x?sslpassword=S", "postgresql+psycopg2://***@db/x?***"),
        ("HTTPS://u@h", "HTTPS://***@h"),
        ("s3://b/k@2.tif", "s3://b/k@2.tif"),
        ("/local/what?.tif of me@home", "/local/what?.tif of me@home"),
        ("https://h/?", "https://h/?"),
    ],
)
def test_urls_are_shown_without_users_and_queries(text: str, safe: str) -> None:
    assert shown(text) == safe


def test_secrets_of_the_environment_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("PGPASSWORD", "dagster")  # too short: other text contains it
    monkeypatch.setenv("DARTS_CDSE_URL", "https://me:pa%2Fssword@h/?token=t0kent0ken&limit=5")
    assert shown("denied for wJalrXUtnFEMI by dagster") == "denied for *** by dagster"
    assert shown("me, pa%2Fssword, pa/ssword; t0kent0ken; limit 5") == "me, ***, ***; ***; limit 5"
    assert str(SettingsError("h: t0kent0ken is refused")) == "h: *** is refused"
    metadata = as_metadata({"a": "t0kent0ken", "b": {"c": ["https://u:p@h"]}})
    assert (metadata["a"].value, metadata["b"].value) == ("***", {"c": ["https://***@h"]})


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("https://me:pa@ss@h:8/a/?token=T#f", "https://h:8/a"),
        ("http://localhost:3000/", "http://localhost:3000"),
        ("https://h/a@b", "https://h/a@b"),
    ],
)
def test_links_have_no_secrets(url: str, base: str) -> None:
    assert link_base(url) == base


def planted(name: str, path: str = "") -> str:
    return f"http://me:WORD-{name}-PLANTED@127.0.0.1:9/{path}?token=TOKEN-{name}-PLANTED"


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    """All settings that are texts, with secrets in them."""
    names = [
        name for name, field in Settings.model_fields.items()
        if {str, SecretStr} & {field.annotation, *get_args(field.annotation)}
        and name not in ("k8s_executor", "k8s_steps", "k8s_gpu_steps", "keep_tiles")  # JSON; one of a few words
    ]  # fmt: skip
    assert {"store", "watch", "planet", "models", "tcvis", "cdse_url", "notify_webhook"} <= {*names}
    for name in names:
        monkeypatch.setenv(f"DARTS_{name.upper()}", planted(name, "{vintage}.tif" if name == "tcvis" else "x"))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    for name, value in {"AWS_ACCESS_KEY_ID": "KEY-ID-PLANTED", "AWS_SECRET_ACCESS_KEY": "KEY-PLANTED"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("darts_assets.remote.retry.UNREACHABLE_SECONDS", 0.0)
    monkeypatch.setattr("darts_assets.orchestration.core.error_handling.MAX_SOURCE_RETRIES", 0)
    settings.cache_clear()
    caplog.set_level(logging.DEBUG)
    return names


@pytest.mark.parametrize(
    ("store", "endpoint"),
    [
        (planted("store"), None),
        ("s3://me:WORD-store-PLANTED@bucket/x?sig=STORE-PLANTED", None),
        ("s3://bucket/x", planted("store_endpoint")),
        pytest.param("s3://bucket/x", "http://me:WORD-store_endpoint-PLANTED@127.0.0.1:9", marks=pytest.mark.slow),
        ("store", None),
    ],
)
def test_doctor_shows_no_secret_of_any_setting(
    texts: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: str, endpoint: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARTS_STORE", store)
    unset = dict.fromkeys(("SOURCE_ENDPOINT", "SOURCE_PROFILE", *ROOTS))
    for name, value in {"STORE_ENDPOINT": endpoint, **unset}.items():
        monkeypatch.setenv(f"DARTS_{name}", value or "")
    settings.cache_clear()
    done = CliRunner().invoke(cli, ["doctor", "--json"])
    assert isinstance(done.exception, SystemExit)
    assert '"fail"' in done.output
    assert "PLANTED" not in done.output


def test_runs_and_ticks_record_no_secret_of_any_setting(
    texts: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    no_urls = {"STORE_REGION", "SOURCE_REGION", "SOURCE_PROFILE", "EARTH_ENGINE_PROJECT", "EARTH_ENGINE_KEY_FILE"}
    for name in no_urls | {"STORE", "STORE_ENDPOINT", "SOURCE_ENDPOINT"}:
        monkeypatch.setenv(f"DARTS_{name}", "")
    for name in ROOTS:  # the cubes on a path, because runs would wait for a service that does not answer
        monkeypatch.setenv(f"DARTS_{name}", "cubes" if name == "AUX_ROOT" else f"s3://bucket/{name}")
        monkeypatch.setenv(f"DARTS_{name}_ENDPOINT", f"http://me:WORD-{name}-PLANTED@127.0.0.1:9")
        monkeypatch.setenv(f"DARTS_{name}_REGION", "")
    defs = build_defs()
    resources = defs.resources or {}
    repository = RepositorySnap.from_def(defs.get_repository_def())
    snapshots = dg.serialize_value(repository).replace("{", "\n{")  # of config, for the UI and Dagster's database
    assert "vintage}.tif?*** (DARTS_TCVIS)" in snapshots
    assert resources["catalogs"].open("cdse", "").service.url == planted("cdse_url", "x")
    with dg.DagsterInstance.ephemeral() as instance:
        for layer, key in (("arcticdem", "10m-r0123-c0456"), ("tcvis", "2024-r0010-c0010")):
            instance.add_dynamic_partitions(str(CHUNK_PARTITIONS[layer].name), [key])  # type: ignore[index]
            (asset,) = [a for a in defs.assets or [] if dg.AssetKey(["aux", f"{layer}_chunk"]) in a.keys]
            run = dg.materialize(
                [asset], instance=instance, partition_key=key, resources=resources, run_config=QUIET,
                raise_on_error=False,
            )  # fmt: skip
            assert not run.success
        config = {**QUIET, "ops": {"find_scenes": {"config": {"tiles": ["08WMB"], "start": "2024-07-01"}}}}
        found = defs.get_job_def("discover_scenes").execute_in_process(
            instance=instance, run_config=config, raise_on_error=False
        )
        assert not found.success
        ticks = []
        for sensor in defs.sensors or []:
            if sensor.name != "failed_runs":
                own = {name: resources[name] for name in sensor.required_resource_keys}
                with dg.build_sensor_context(instance=instance, resources=own) as context:
                    ticks.append(str(sensor.evaluate_tick(context)))
        recorded = [str(entry) for run in instance.get_runs() for entry in instance.all_logs(run.run_id)]
    assert len(recorded) > 20
    everything = "\n".join([*recorded, *ticks, caplog.text, *snapshots.splitlines()])
    assert "127.0.0.1:9" in everything
    assert [line for line in everything.splitlines() if "PLANTED" in line] == []
