"""Config classes share the domain's parameter models; invalid values fail the step with one sentence."""

import dagster as dg
import pytest

from darts_assets.detection import PostprocessParameters
from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.error_handling import failure_message
from darts_assets.orchestration.scene_chain.polygons import PolygonsConfig


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
