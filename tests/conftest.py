"""Options and fixtures of all tests; `README.md` describes how to run them."""

import os
import signal
from pathlib import Path

import pytest

pytest_plugins = ["tests.servers.stac_api.server"]

TESTS = Path(__file__).parent
SLOW_FOLDERS = tuple(TESTS / name for name in ("benchmarks", "e2e", "k8s", "servers", "sources/earth_engine"))
SLOW_FIXTURES = {"stac_api"}
"""Fixtures that start servers which take seconds."""

# A settings file in a folder above the checkout is for other work; tests of it set this variable, or remove it.
os.environ["DARTS_CONFIG"] = "none"

# A shell ignores SIGINT for commands in the background, and child processes inherit that. Dagster's in-process runs
# would then ignore SIGTERM too, as would everything they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as slow by folder and fixture, and run files with slow tests first, so that workers end together."""
    for item in items:
        in_slow_folder = any(folder in item.path.parents for folder in SLOW_FOLDERS)
        if in_slow_folder or SLOW_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.parent.name != "e2e", item.path not in slow))


@pytest.fixture(autouse=True)
def own_settings() -> None:
    """Each test reads the environment itself: settings are cached in the process."""
    from darts_assets.settings import settings

    settings.cache_clear()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Root of the real data and the peer's reference; tests that use it are skipped where it is missing."""
    root = Path(os.environ.get("DARTS_ASSETS_TEST_DATA", "../shared")).resolve()
    if not (root / "data").is_dir():
        pytest.skip(f"no test data at {root} (set DARTS_ASSETS_TEST_DATA)")
    return root


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `DAGSTER_HOME` whose databases have their tables: a copy opens four times as fast as a new one."""
    import dagster as dg

    home = tmp_path_factory.mktemp("empty") / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    dg.DagsterInstance.from_config(str(home)).dispose()
    return home
