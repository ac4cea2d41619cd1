"""Assets `training/folds` and `training/cross_validation`: a model per fold, and their summary."""

import math
from typing import Any

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import materialize_result, picture, provenance
from darts_assets.orchestration.core.pod_resources import GPU_POOL
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.training.common import CROSS_VALIDATION, DATASET, FOLDS, training_asset
from darts_assets.orchestration.training.model import (
    LiveCurves,
    ModelConfig,
    as_text,
    start_of,
    training_facts,
    training_metadata,
    training_set,
)

CODE_VERSION = "1"

FOLD_PARTITIONS = dg.StaticPartitionsDefinition([str(fold) for fold in range(10)])


class SummaryConfig(dg.Config):
    """The summarized folds."""

    name: str = Field("slumps", description="Name of the cross-validation: `name` of its folds.")


def build_cross_validation() -> list[dg.AssetsDefinition]:
    """The assets of a cross-validation."""
    return [_folds, _cross_validation]


@dg.asset(
    **training_asset(FOLDS, "model"),
    pool=GPU_POOL,
    deps=[DATASET],
    partitions_def=FOLD_PARTITIONS,
    kinds={"torch", "lightning"},
    code_version=CODE_VERSION,
    description="Model of a fold of a cross-validation: all but the fold trains, the fold validates.",
)
@measured
def _folds(context: dg.AssetExecutionContext, config: ModelConfig, store: Store) -> dg.MaterializeResult[None]:
    fold = int(context.partition_key)
    with domain_call(context.log):
        from darts_assets.training.cross_validation import fold_parameters, fold_result, setup_of, write_fold
        from darts_assets.training.trained_model import train_model

        data = training_set(store, config.dataset)
        start, models, name = start_of(store, config), store.root.child("models"), f"{config.name}-fold{fold}"
        parameters = fold_parameters(config, fold, data)
        trained = train_model(
            data, parameters, name, models,
            start=start, licence=config.licence, on_epoch=LiveCurves(context, FOLDS, context.partition_key),
        )  # fmt: skip
        setup = setup_of(parameters, data, start.sha256 if start else None)
        write_fold(models, config.name, fold_result(trained, parameters, name, setup))
    facts = training_facts(config, data.digest, start, fold=fold)
    return materialize_result(training_metadata(trained), facts)


@dg.asset(
    **training_asset(CROSS_VALIDATION, "dataset"),
    deps=[dg.AssetDep(FOLDS, partition_mapping=dg.AllPartitionMapping())],
    kinds={"pandas"},
    code_version=CODE_VERSION,
    description="Accuracy over all folds and per region, and the ensemble of their models for DARTS_MODELS.",
)
@measured
def _cross_validation(
    context: dg.AssetExecutionContext, config: SummaryConfig, store: Store
) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.training.cross_validation import fold_chart, summarize

        summary = summarize(store.root.child("models"), config.name)
        tables = {"folds": summary.table(), "regions": summary.regions()}
        metadata: dict[str, Any] = {
            "Folds": picture(fold_chart(summary)),
            **{
                name: dg.MetadataValue.table([_record(row) for row in table.to_dict("records")])
                for name, table in tables.items()
            },
            "DARTS_MODELS": summary.models,
            "best_model": max(summary.folds, key=lambda fold: fold.predictions["model"].figures()["iou"]).model,
            "unit_of_intervals": summary.pooled["model"].unit,
            **({"verdict": summary.verdict} if summary.verdict else {}),
        }
    hashes = {f"fold{fold.fold}": fold.sha256 for fold in summary.folds}
    return materialize_result(metadata, provenance(CODE_VERSION, config.model_dump(), **hashes))


def _record(row: dict[Any, Any]) -> dg.TableRecord:
    return dg.TableRecord({str(key): _cell(value) for key, value in row.items()})


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if math.isnan(value) else as_text(float(value))
