import pytest

from tests.benchmarks.cold_start import Run, gaps, imports_of

SAID = """
import time:       700 |        700 |   zipimport
2026-01-01 - dagster - DEBUG - __ASSET_JOB - run - 1 - RUN_START - Started execution
2026-01-01 - dagster - DEBUG - __ASSET_JOB - run - 1 - sentinel2__raw_scene - STEP_START - Started execution of step
import time:    250000 |     900000 |     rasterio
import time:    150000 |     150000 |       rasterio.warp
2026-01-01 - dagster - DEBUG - __ASSET_JOB - run - 1 - sentinel2__raw_scene - STEP_SUCCESS - Finished execution
import time:    100000 |     100000 | between
2026-01-01 - dagster - DEBUG - __ASSET_JOB - run - 1 - sentinel2__segmentation - STEP_START - Started execution of step
import time:   2000000 |    2000000 | torch
"""


def test_imports_belong_to_the_step_in_which_they_happen() -> None:
    assert imports_of(SAID) == pytest.approx({"": 0.1007, "sentinel2__raw_scene": 0.4, "sentinel2__segmentation": 2.0})


def test_gaps_are_between_steps_in_the_order_of_time() -> None:
    run = Run(started=0, begun=1, steps={"b": (10.0, 11.0), "a": (2.0, 9.5), "c": (11.25, 12.0)}, ended=13)
    assert list(gaps(run)) == [0.5, 0.25]
