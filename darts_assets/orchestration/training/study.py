"""Asset `training/tuning`: a search for hyperparameters."""

import math
from typing import Any

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, picture, provenance
from darts_assets.orchestration.core.pod_resources import GPU_POOL
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.training.common import DATASET, MAX_ROWS, TUNING, training_asset
from darts_assets.orchestration.training.model import as_text, start_of, training_set
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.tuning_parameters import TuningParameters

CODE_VERSION = "1"


class TuningConfig(StepConfig, FitParameters, TuningParameters):
    """A study, and the hyperparameters that it does not search."""

    dataset: str = Field("default", description="Name of the training set.")


def build_tuning() -> list[dg.AssetsDefinition]:
    """The asset that searches hyperparameters."""
    return [_tuning]


@dg.asset(
    **training_asset(TUNING, "model"),
    pool=GPU_POOL,
    deps=[DATASET],
    kinds={"torch", "optuna"},
    code_version=CODE_VERSION,
    retry_policy=dg.RetryPolicy(max_retries=2, delay=30),
    description="Search for hyperparameters. A study continues after its last trials; several runs may work on one.",
)
@measured
def _tuning(context: dg.AssetExecutionContext, config: TuningConfig, store: Store) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.training.tuning import study_chart, tune

        data = training_set(store, config.dataset)
        start = start_of(store, config)
        parameters = FitParameters(**{name: getattr(config, name) for name in FitParameters.model_fields})
        report = tune(data, parameters, config, store.root.child("models"), start)
        best_first = report.trials.sort_values("value", ascending=report.monitor == "loss")
        metadata: dict[str, Any] = {
            "Study": picture(study_chart(report)),
            "best": report.best,
            f"best_{report.monitor}": round(report.value, 4),
            "trials": dg.MetadataValue.table([_record(row) for row in best_first.head(MAX_ROWS).to_dict("records")]),
            "states": {str(state): int(count) for state, count in report.trials["state"].value_counts().items()},
        }
    origin = {} if start is None else {"start": start.sha256}
    hyperparameters = config.model_dump(exclude={"device", "readers", "storage"})
    return materialize_result(metadata, provenance(CODE_VERSION, hyperparameters, dataset=data.digest, **origin))


def _record(row: dict[Any, Any]) -> dg.TableRecord:
    return dg.TableRecord({str(name): _cell(value) for name, value in row.items()})


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else as_text(value)
    return str(value)
