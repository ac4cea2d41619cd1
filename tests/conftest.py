import os
from pathlib import Path

import pytest

pytest_plugins = ["stac_api"]  # tests/servers


@pytest.fixture(scope="session")
def shared() -> Path:
    """Root of the real data and the peer's reference; tests that need it are skipped elsewhere."""
    root = Path(os.environ.get("DARTS_ASSETS_TEST_DATA", "../shared")).resolve()
    if not (root / "data").is_dir():
        pytest.skip(f"no test data at {root} (set DARTS_ASSETS_TEST_DATA)")
    return root
