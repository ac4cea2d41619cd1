"""Assets `training/model` and `training/report`: a trained model, and the evaluation of a model on a dataset."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from darts_assets.orchestration.core.error_handling import StepConfig, domain_call
from darts_assets.orchestration.core.metadata import materialize_result, picture, provenance
from darts_assets.orchestration.core.pod_resources import GPU_POOL
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.training.common import DATASET, MODEL, REPORT, training_asset
from darts_assets.training.fit.fit_parameters import FitParameters

if TYPE_CHECKING:
    from darts_assets.model import CheckpointHeader
    from darts_assets.training.fit.training_set import TrainingSet
    from darts_assets.training.report import Report
    from darts_assets.training.trained_model import TrainedModel

CODE_VERSION = "3"

_SECONDS = 30


class ModelConfig(StepConfig, FitParameters):
    """How a model is trained."""

    dataset: str = Field("default", description="Name of the training set.")
    name: str = Field("slumps", description="Name of the model; it is written to `models/<name>.ckpt` in the store.")
    licence: str | None = Field(None, description="Licence of the model for its card: SPDX identifier, or `other`.")


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
    with domain_call(context.log):
        from darts_assets.training.trained_model import train_model

        data = training_set(store, config.dataset)
        start = start_of(store, config)
        trained = train_model(
            data, config, config.name, store.root.child("models"),
            start=start, licence=config.licence, on_epoch=LiveCurves(context, MODEL),
        )  # fmt: skip
    facts = training_facts(config, data.digest, start)
    metadata = training_metadata(trained)
    if data.experts:
        metadata["experts"] = data.experts
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
        from darts_assets.training.report_parts import baselines_of, part_of
        from darts_assets.training.report_pictures import examples, reliability_diagram, threshold_curve

        data = training_set(store, config.dataset)
        header = read_header(local_checkpoint(config.checkpoint, store.root))
        numbers, trained_here = part_of(data, header.path, config.part)
        predictor = Predictor(header, data, config.device)
        evaluation = report(predictor, data, numbers, config.batch_size, baselines_of(header.path))
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
        **({"verdict": evaluation.verdict} if evaluation.verdict else {}),
        "accuracy": accuracy_table(evaluation),
        "sizes": size_table(evaluation),
        **({"regions": dg.MetadataValue.table(_rows(evaluation.regions))} if evaluation.regions else {}),
        **pictures,
    }
    return materialize_result(metadata, facts)


class LiveCurves:
    """Records the curves of a running training as observations of its asset, at most once in `_SECONDS`."""

    def __init__(self, context: dg.AssetExecutionContext, key: dg.AssetKey, partition: str | None = None) -> None:
        self._context, self._key, self._partition = context, key, partition
        self._last = time.monotonic()

    def __call__(self, history: list[dict[str, float]], best: int) -> None:
        """Record the curves if the last record is old enough."""
        if time.monotonic() - self._last < _SECONDS:
            return
        from darts_assets.training.report_pictures import loss_curves, metric_curves

        metadata: dict[str, Any] = {
            "Losses": picture(loss_curves(history, best)),
            "Curves": picture(metric_curves(history, best)),
            "epochs": len(history),
            "last_epoch": dg.MetadataValue.json(_rounded(history[-1])),
        }
        self._context.log_event(dg.AssetObservation(self._key, partition=self._partition, metadata=metadata))
        self._last = time.monotonic()


def start_of(store: Store, config: FitParameters) -> "CheckpointHeader | None":
    """The checkpoint that training starts from, None for a new network."""
    if config.continue_from_checkpoint is None:
        return None
    from darts_assets.model import local_checkpoint, read_header

    return read_header(local_checkpoint(config.continue_from_checkpoint, store.root))


def training_set(store: Store, name: str) -> "TrainingSet":
    """The assembled set of a name."""
    from darts_assets.training.fit.training_set import TrainingSet
    from darts_assets.training.set_store import TrainingSetStore

    return TrainingSet.open(TrainingSetStore(store.root.child("training", name)).current)


def training_facts(
    config: ModelConfig, dataset: str, start: "CheckpointHeader | None", fold: int | None = None
) -> dict[str, Any]:
    """Provenance of a training; `fold` replaces that of the config."""
    hyperparameters = config.model_dump(
        exclude={"device", "readers", "name", "loggers", "wandb_project", "wandb_entity"}
    )
    if fold is not None:
        hyperparameters["fold"] = fold
    origin = {} if start is None else {"start": start.sha256}
    return provenance(CODE_VERSION, hyperparameters, dataset=dataset, **origin)


def training_metadata(trained: "TrainedModel") -> dict[str, Any]:
    """Metadata of a training: pictures, figures, curves, model card."""
    result, reports = trained.result, trained.reports
    return {
        "path": dg.MetadataValue.path(trained.target.url),
        **{name: picture(image, photo=name == "Examples") for name, image in trained.pictures.items()},
        **{name: _figures(evaluation) for name, evaluation in reports.items()},
        **{f"{name}_verdict": evaluation.verdict for name, evaluation in reports.items() if evaluation.verdict},
        **{f"{name}_accuracy": accuracy_table(evaluation) for name, evaluation in reports.items()},
        **{f"{name}_sizes": size_table(evaluation) for name, evaluation in reports.items()},
        "card": dg.MetadataValue.md(trained.card),
        "epochs": len(result.history),
        "best_epoch": result.best + 1,
        "resumed_after": result.resumed,
        "patches": {name: len(getattr(result.parts, name)) for name in ("training", "validation", "test", "left_out")},
        "split": list(result.choices),
        "history": [_rounded(epoch) for epoch in result.history],
        "logs": dg.MetadataValue.path(trained.logs.url),
        "temperature": result.header.temperature,
        "sha256": trained.sha256,
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


def accuracy_table(report: "Report") -> dg.TableMetadataValue:
    """Figures of the model with 95 % intervals, and of the baselines."""
    low_high = report.evaluation.intervals()
    rows = [
        dg.TableRecord(
            {
                "figure": name,
                "model": as_text(value),
                "low": as_text(low_high[name][0]),
                "high": as_text(low_high[name][1]),
                **{rule.kind: as_text(evaluation.figures()[name]) for rule, evaluation in report.baselines},
            }
        )
        for name, value in report.evaluation.figures().items()
    ]
    return dg.MetadataValue.table(rows)


def size_table(report: "Report") -> dg.TableMetadataValue:
    """Objects by class of size."""
    rows = [
        {name: value if isinstance(value, str) else as_text(value) for name, value in row.items()}
        for row in report.evaluation.by_size()
    ]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in rows])


def as_text(value: float) -> str:
    """A figure for tables; NaN is "undefined"."""
    return "undefined" if math.isnan(value) else f"{value:.4g}"


def _rows(regions: Mapping[str, Mapping[str, float]]) -> Sequence[dg.TableRecord]:
    return [dg.TableRecord({"region": name, **_rounded(figures)}) for name, figures in regions.items()]


def _rounded(figures: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics rounded for display; NaN is "undefined"."""
    return {name: "undefined" if math.isnan(value) else round(value, 4) for name, value in figures.items()}
