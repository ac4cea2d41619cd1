from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks.registry_scale import NEW, Measured, growth, measure, table
from tests.servers.stac_api.server import StacApi


@pytest.mark.slow
def test_a_small_registry_is_measured(tmp_path: Path, stac_api: StacApi) -> None:
    """It asserts by itself that what it measures does what it should."""
    measured = measure(NEW + 60, 2, tmp_path, stac_api)
    assert len(measured.seconds) == 10
    assert all(wall > 0 and cpu >= 0 for wall, cpu in measured.seconds.values())


def test_growth_is_an_exponent() -> None:
    sizes = [Measured(size, {"tick": (9.0, seconds)}) for size, seconds in ((100, 1.0), (1000, 10.0), (10_000, 1000.0))]
    assert growth(sizes[0], sizes[1], "tick") == pytest.approx(1)
    assert growth(sizes[1], sizes[2], "tick") == pytest.approx(2)
    console = Console(record=True, width=200)
    console.print(table(sizes))
    assert "2.00" in console.export_text()
