"""Config classes share the domain's parameter models; invalid values fail the step with one sentence."""

import errno
import logging
import subprocess
import sys

import dagster as dg
import pytest
from obstore.exceptions import GenericError

from darts_assets.detection import PostprocessParameters
from darts_assets.errors import ChunksFailedError, SettingsError, SourceUnavailableError
from darts_assets.orchestration.core.error_handling import UNREACHABLE, domain_call, failure_message
from darts_assets.orchestration.scene_chain.polygons import PolygonsConfig

LOG = logging.getLogger(__name__)


@dg.asset
def threshold(config: PolygonsConfig) -> float:
    return config.threshold


def run(**config: object) -> dg.ExecuteInProcessResult:
    run_config = {
        "ops": {"threshold": {"config": config}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
    return dg.materialize([threshold], run_config=run_config, raise_on_error=False)


def test_an_invalid_value_fails_the_step_with_one_sentence() -> None:
    (failure,) = (event for event in run(threshold=2).all_events if event.is_step_failure)
    sentence = failure_message(failure.step_failure_data)
    assert sentence.startswith("SettingsError: threshold is 2.0, expected less than or equal to 1 (Probability, 0 to 1")
    assert failure.step_failure_data.user_failure_data is not None


def test_defaults_limits_and_descriptions_are_those_of_the_domain() -> None:
    assert PolygonsConfig().model_dump() == PostprocessParameters().model_dump()
    fields = PolygonsConfig.to_config_schema().as_field().config_type.fields  # type: ignore[attr-defined]
    assert {name: field.description for name, field in fields.items()} == {
        name: field.description for name, field in PostprocessParameters.model_fields.items()
    }
    assert run(threshold=0.25).output_for_node("threshold") == 0.25


def test_parameters_are_immutable_and_unknown_ones_are_listed() -> None:
    with pytest.raises(SettingsError, match="unknown parameter treshold; known are quality_level"):
        PostprocessParameters(**{"treshold": 0.5})
    parameters = PostprocessParameters(threshold=0.3)
    assert parameters.replace(min_object_size=4).threshold == 0.3
    with pytest.raises(SettingsError, match="min_object_size is -4"):
        parameters.replace(min_object_size=-4)
    with pytest.raises(ValueError, match="frozen"):
        parameters.threshold = 0.9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "a.tif"),
            "StoreError: a.tif: the disk is full; free some space",
        ),
        (
            GenericError("Read-only file system (os error 30)"),
            "StoreError: the file system is read-only; set DARTS_STORE",
        ),
    ],
)
def test_a_disk_that_cannot_be_written_fails_the_step_with_one_sentence(error: Exception, sentence: str) -> None:
    with pytest.raises(dg.Failure) as failure, domain_call(logging.getLogger("test")):
        raise error
    assert str(failure.value.description).startswith(sentence)


def test_other_errors_of_the_system_stay_as_they_are() -> None:
    with pytest.raises(FileNotFoundError), domain_call(logging.getLogger("test")):
        raise FileNotFoundError(errno.ENOENT, "No such file")


@pytest.mark.parametrize("on_a_cluster", [False, True])
def test_an_unreachable_service_is_tried_again_only_on_a_cluster(
    monkeypatch: pytest.MonkeyPatch, on_a_cluster: bool
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    if on_a_cluster:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    error = SourceUnavailableError("cdse: no route to the host", unreachable=True)
    for problem in (error, ChunksFailedError("arcticdem_10m", {"10m-r1-c1": error}, [])):
        with pytest.raises(dg.RetryRequested if on_a_cluster else dg.Failure) as raised, domain_call(LOG):
            raise problem
        if not on_a_cluster:
            assert isinstance(raised.value, dg.Failure)
            assert raised.value.metadata == {UNREACHABLE: dg.MetadataValue.bool(True)}
    with pytest.raises(dg.RetryRequested), domain_call(LOG):
        raise SourceUnavailableError("cdse: HTTP 503")


def test_the_reasons_of_failures_are_the_last_lines_of_dagsters_commands() -> None:
    script = """
import sys
sys.argv = ["dagster"]
import dagster as dg
from darts_assets.errors import RasterError
from darts_assets.orchestration.core.error_handling import domain_call

@dg.asset
def broken(context):
    with domain_call(context.log):
        raise RasterError("a.tif: band 1 is truncated")

dg.materialize([broken], raise_on_error=False)
print("the command ends", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "the command ends"
    assert done.stderr.splitlines()[-1] == "RasterError: a.tif: band 1 is truncated"
    assert "was caused by" not in done.stderr
