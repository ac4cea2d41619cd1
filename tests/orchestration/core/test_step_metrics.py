"""What steps cost, as their materializations tell it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import dagster as dg
import pytest

from darts_assets.definitions import build_defs
from darts_assets.orchestration.core.metadata import in_units
from darts_assets.orchestration.core.step_metrics import Meter, costs_of, measured
from darts_assets.settings import Settings

MIB = 2**20
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells it on Linux only")


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def alone(code: str) -> None:
    """Run code in a process of its own: what other tests have left here takes time and gives memory back."""
    code = dedent(code)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_time_and_processor_time() -> None:
    alone(
        """
        import subprocess, sys, time
        from darts_assets.orchestration.core.step_metrics import Meter

        BURN = "import time; end = time.process_time() + 0.2\\nwhile time.process_time() < end: pass"

        meter = Meter()
        exec(BURN)
        time.sleep(0.2)
        subprocess.run([sys.executable, "-c", BURN], check=True)
        costs = meter.costs()
        assert costs["seconds"] > 0.55, costs
        assert 0.38 <= costs["cpu_seconds"] < costs["seconds"] - 0.15, f"of the child too, but not of sleeping: {costs}"
        """
    )


@pytest.mark.slow
@LINUX
def test_memory_is_that_of_the_time_and_meters_may_be_nested() -> None:
    alone(
        """
        import numpy as np
        from darts_assets.orchestration.core.step_metrics import Meter

        MIB = 2**20

        def fill(mib):
            np.ones(mib * MIB, "uint8")

        def above(base, meter):
            return (meter.costs()["peak_memory"] - base) / MIB

        fill(300)
        base = Meter().costs()["peak_memory"]
        outer = Meter()
        fill(200)
        inner = Meter()
        fill(60)
        assert 50 < above(base, inner) < 100, "not what was before it"
        assert 190 < above(base, outer) < 240, "also what was before the inner one"
        fill(100)
        assert 90 < above(base, inner) < 140, "it goes on"
        """
    )


@LINUX
def test_bytes_of_files(tmp_path: Path) -> None:
    (tmp_path / "before").write_bytes(bytes(3 * MIB))
    meter = Meter()
    (tmp_path / "file").write_bytes(bytes(2 * MIB))
    (tmp_path / "before").read_bytes()
    costs = meter.costs()
    assert 2 * MIB <= costs["bytes_written"] < 2.1 * MIB
    assert 3 * MIB <= costs["bytes_read"] < 3.1 * MIB


class Writer(dg.IOManager):
    """Does the work when it writes, as that for tiles does."""

    def load_input(self, context: dg.InputContext) -> Any:
        return 0

    def handle_output(self, context: dg.OutputContext, obj: float) -> None:
        burn(obj)
        context.add_output_metadata(dict(costs_of(context)))


class Config(dg.Config):
    size: int = 3
    name: str | None = None


@dg.asset(io_manager_key="writer")
@measured
def lazy(context: dg.AssetExecutionContext, config: Config) -> dg.MaterializeResult[float]:
    burn(0.1)
    return dg.MaterializeResult(value=0.2, metadata={"own": 1})


@dg.asset(io_manager_key="writer")
def unmeasured() -> float:
    return 0.0


@dg.asset(deps=[lazy])
@measured
def eager(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    time.sleep(0.05)
    metadata = {"bytes": 7, "picture": dg.MetadataValue.md("![](data:...)")}
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion("one"))


@pytest.fixture(scope="module")
def done() -> dg.ExecuteInProcessResult:
    config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, "ops": {"lazy": {"config": {"size": 4}}}}
    return dg.materialize([lazy, unmeasured, eager], resources={"writer": Writer()}, run_config=config)


@pytest.fixture(scope="module")
def recorded(done: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        event.asset_key.to_user_string(): {k: v.value for k, v in event.materialization.metadata.items()}
        for event in done.get_asset_materialization_events()
    }


def test_a_step_is_measured_to_the_end_of_writing(recorded: dict[str, dict[str, Any]]) -> None:
    assert 0.29 <= recorded["lazy"]["cpu_seconds"] <= recorded["lazy"]["seconds"] + 0.05
    assert recorded["eager"]["seconds"] >= 0.05
    assert recorded["eager"]["cpu_seconds"] < 0.25, "of its own step, not since the one before"
    assert recorded["eager"]["bytes"] == 7
    assert recorded["eager"]["peak_memory"] > 10 * MIB
    assert "seconds" not in recorded["unmeasured"], "what another step has cost is not told"


def test_pictures_are_recorded_in_the_materialization_only(
    done: dg.ExecuteInProcessResult, recorded: dict[str, dict[str, Any]]
) -> None:
    assert recorded["eager"]["picture"] == "![](data:...)"
    outputs = {e.step_key: e.step_output_data.metadata for e in done.all_events if e.is_successful_output}
    assert outputs["eager"]["picture"].value is None
    assert outputs["eager"]["bytes"].value == 7


def test_costs_are_also_told_in_human_units(recorded: dict[str, dict[str, Any]]) -> None:
    assert recorded["eager"]["Size"] == "7 B"
    seconds = float(recorded["lazy"]["Took"].partition(" s,")[0])
    assert seconds == pytest.approx(recorded["lazy"]["seconds"], rel=0.01), "with the time of writing"
    assert list(recorded["eager"])[:3] == ["picture", "Size", "Took"]
    assert list(recorded["eager"])[-1] == "versions"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bytes": 2_512_345_678}, {"Size": "2.51 GB"}),
        ({"bytes": 999}, {"Size": "999 B"}),
        ({"seconds": 4.1234, "cpu_seconds": 93.7}, {"Took": "4.12 s, 93.7 s of CPU"}),
        ({"seconds": 173.2, "peak_memory": 3_100_000_000}, {"Took": "2 min 53 s, 3.1 GB of memory"}),
        ({"seconds": 8000, "peak_gpu_memory": 10**9}, {"Took": "2 h 13 min, 1 GB of GPU memory"}),
        ({"path": "x"}, {}),
    ],
)
def test_units(values: dict[str, Any], words: dict[str, str]) -> None:
    assert in_units(values) == words
    assert (
        in_units({name: dg.MetadataValue.float(float(value)) for name, value in values.items() if name != "path"})
        == words
    )


def test_config_and_versions_are_told(recorded: dict[str, dict[str, Any]]) -> None:
    assert recorded["lazy"]["config"] == {"size": 4, "name": None}, "with what was not given"
    assert recorded["lazy"]["own"] == 1
    versions = recorded["eager"]["versions"]
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert versions["dagster"] == dg.__version__
    assert {"darts_assets", "numpy", "torch", "rasterio", "icechunk"} <= versions.keys()


def test_every_asset_is_measured() -> None:
    by_themselves = {"arcticdem_chunk", "tcvis_chunk", "segmentation", "polygons", "products"}  # each partition is
    assets = [asset for asset in build_defs(Settings()).assets or [] if isinstance(asset, dg.AssetsDefinition)]
    functions = {asset.key.path[-1]: asset.op.compute_fn.decorated_fn for asset in assets}  # type: ignore[union-attr]
    unmeasured = {name for name, function in functions.items() if not hasattr(function, "__wrapped__")}
    assert unmeasured == by_themselves


@pytest.mark.skipif(not os.access("/dev/nvidia0", os.R_OK), reason="there is no GPU")
def test_memory_of_a_gpu() -> None:
    torch = pytest.importorskip("torch")
    torch.cuda.init()
    torch.ones(200 * MIB, dtype=torch.uint8, device="cuda").cpu()
    meter = Meter()
    torch.ones(64 * MIB, dtype=torch.uint8, device="cuda").cpu()
    assert 64 * MIB <= meter.costs()["peak_gpu_memory"] < 100 * MIB
