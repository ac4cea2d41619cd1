"""Assets `training/model` and `training/report`: a trained model, and the evaluation of a model on a dataset."""

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
import obstore
from pydantic import Field

from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, picture, provenance
from darts_assets.orchestration.core.pod_resources import GPU_POOL
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.training.common import DATASET, MODEL, REPORT, training_asset
from darts_assets.training.fit.fit_parameters import FitParameters

if TYPE_CHECKING:
    from darts_assets.training.fit.trainer import FitResult
    from darts_assets.training.fit.training_set import TrainingSet
    from darts_assets.training.report import Predictor, Report

CODE_VERSION = "2"


class ModelConfig(StepConfig, FitParameters):
    """How a model is trained."""

    dataset: str = Field("default", description="Name of the training set.")
    name: str = Field("slumps", description="Name of the model; it is written to `models/<name>.ckpt` in the store.")


class ReportConfig(dg.Config):
    """The evaluated model, and the patches to evaluate it on."""

    dataset: str = Field("default", description="Name of the set.")
    checkpoint: str = Field("slumps", description="A path, `s3://bucket/key`, or the name of a model in the store.")
    part: Literal["validation", "test", "training", "all"] = Field(
        "validation", description="Part of the set that the model was trained on; of any other set, all patches count."
    )
    batch_size: int = Field(1, description="Patches that run at once.")
    device: str = Field("auto", description="`auto`, `cpu`, `cuda` or the index of a GPU.")


def build_training() -> list[dg.AssetsDefinition]:
    """The assets that train and evaluate models."""
    return [_model, _report]


@dg.asset(
    **training_asset(MODEL),
    pool=GPU_POOL,
    deps=[DATASET],
    kinds={"torch", "lightning"},
    code_version=CODE_VERSION,
    description="Model trained on a dataset, as a checkpoint for the segmentation. An interrupted training resumes.",
)
@measured
def _model(context: dg.AssetExecutionContext, config: ModelConfig, store: Store) -> dg.MaterializeResult[None]:
    states = store.root.child("models", "unfinished")
    with domain_call(context.log), tempfile.TemporaryDirectory() as folder:
        from darts_assets.training.fit.resume_state import forget_state
        from darts_assets.training.fit.trainer import fit
        from darts_assets.training.report import Predictor, report

        data = _training_set(store, config.dataset)
        target = store.root.child("models", f"{config.name}.ckpt")
        result = fit(data, config, Path(folder) / f"{config.name}.ckpt", states)
        predictor = Predictor(result.header, data, config.device)
        numbers = {"validation": result.parts.validation, "test": result.parts.test}
        reports = {name: report(predictor, data, rows, config.batch_size) for name, rows in numbers.items() if rows}
        pictures = _fit_pictures(result, predictor, data)
        obstore.put(store.root.child("models").objects(), f"{config.name}.ckpt", result.header.path)
        forget_state(states.child(result.fingerprint))
    hyperparameters = config.model_dump(exclude={"device", "readers", "name"})
    facts = provenance(CODE_VERSION, hyperparameters, dataset=data.digest)
    metadata = {
        "path": dg.MetadataValue.path(target.url),
        **pictures,
        **{name: _figures(evaluation) for name, evaluation in reports.items()},
        "epochs": len(result.history),
        "best_epoch": result.best + 1,
        "resumed_after": result.resumed,
        "patches": {name: len(getattr(result.parts, name)) for name in ("training", "validation", "test", "left_out")},
        "split": list(result.choices),
        "history": [_rounded(epoch) for epoch in result.history],
        "sha256": result.header.sha256,
    }
    return materialize_result(metadata, facts)


@dg.asset(
    **training_asset(REPORT),
    pool=GPU_POOL,
    deps=[MODEL, DATASET],
    kinds={"torch"},
    code_version=CODE_VERSION,
    description="Evaluation of a model on a dataset: metrics per region, calibration, best threshold.",
)
@measured
def _report(context: dg.AssetExecutionContext, config: ReportConfig, store: Store) -> dg.MaterializeResult[None]:
    with domain_call(context.log):
        from darts_assets.model import local_checkpoint, read_header
        from darts_assets.training.report import Predictor, report
        from darts_assets.training.report_parts import part_of
        from darts_assets.training.report_pictures import examples, reliability_diagram, threshold_curve

        data = _training_set(store, config.dataset)
        header = read_header(local_checkpoint(config.checkpoint, store.root))
        numbers, trained_here = part_of(data, header.path, config.part)
        predictor = Predictor(header, data, config.device)
        evaluation = report(predictor, data, numbers, config.batch_size)
        pictures = {
            "Reliability": picture(reliability_diagram(evaluation)),
            "Thresholds": picture(threshold_curve(evaluation)),
            **({"Examples": picture(examples(predictor, data, numbers), photo=True)} if numbers else {}),
        }
    facts = provenance(
        CODE_VERSION, config.model_dump(exclude={"device", "batch_size"}), dataset=data.digest, model=header.sha256
    )
    metadata = {
        "part": config.part if trained_here else "all: the model was not trained on this dataset",
        **_figures(evaluation),
        **({"regions": dg.MetadataValue.table(_rows(evaluation.regions))} if evaluation.regions else {}),
        **pictures,
    }
    return materialize_result(metadata, facts)


def _training_set(store: Store, name: str) -> "TrainingSet":
    from darts_assets.training.fit.training_set import TrainingSet
    from darts_assets.training.set_store import TrainingSetStore

    return TrainingSet.open(TrainingSetStore(store.root.child("training", name)).current)


def _fit_pictures(result: "FitResult", predictor: "Predictor", data: "TrainingSet") -> dict[str, Any]:
    from darts_assets.training.report_pictures import examples, loss_curves, metric_curves

    return {
        "Losses": picture(loss_curves(result.history, result.best)),
        "Curves": picture(metric_curves(result.history, result.best)),
        "Examples": picture(examples(predictor, data, result.parts.validation), photo=True),
    }


def _figures(report: "Report") -> dict[str, Any]:
    """Metrics of a report for the UI."""
    numbers = {
        **report.figures,
        "best_threshold": report.best_threshold,
        "best_iou": report.best_iou,
        "calibration_error": report.reliability.error,
    }
    return _rounded(numbers)


def _rows(regions: Mapping[str, Mapping[str, float]]) -> Sequence[dg.TableRecord]:
    return [dg.TableRecord({"region": name, **_rounded(figures)}) for name, figures in regions.items()]


def _rounded(figures: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics rounded for display; NaN is "undefined"."""
    return {name: "undefined" if math.isnan(value) else round(value, 4) for name, value in figures.items()}
