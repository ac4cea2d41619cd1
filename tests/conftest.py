import os
import signal
from pathlib import Path

import pytest

pytest_plugins = ["tests.servers.stac_api.server"]

# Ignored where a script runs the tests in the background: Dagster's runs in this process then have it, and all that is
# started after them, ignore SIGTERM too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: no worker is left with one of them when the others have nothing more to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: not (item.path in slow or item.path.parent.name == "e2e"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Root of the real data and the peer's reference; tests that need it are skipped elsewhere."""
    root = Path(os.environ.get("DARTS_ASSETS_TEST_DATA", "../shared")).resolve()
    if not (root / "data").is_dir():
        pytest.skip(f"no test data at {root} (set DARTS_ASSETS_TEST_DATA)")
    return root
