"""Model cards: what a model was trained on, how accurate it is, and what is not known (Mitchell et al. 2019)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.trainer import FitResult
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.report import Report

_FIGURES = {
    "iou": "IoU", "f1": "F1", "precision": "precision", "recall": "recall", "boundary_iou": "boundary IoU",
    "brier": "Brier score", "object_precision": "precision of objects", "object_recall": "recall of objects",
    "object_f1": "F1 of objects",
}  # fmt: skip


def model_card(
    name: str,
    data: TrainingSet,
    parameters: FitParameters,
    result: FitResult,
    reports: Mapping[str, Report],
    licence: str | None,
) -> dict[str, Any]:
    """The card of a model, plain data for its checkpoint.

    Args:
        name: name of the model.
        data: the set that it was trained on.
        parameters: hyperparameters.
        result: the training.
        reports: evaluation by part of the set (`validation`, `test`).
        licence: licence of the model; None if not decided.

    Returns:
        `markdown`, `licence`, and `accuracy`: part -> figure -> `value`, `low`, `high` (95 % interval); a number that
        is undefined is None.
    """
    accuracy = {part: _accuracy(report) for part, report in reports.items()}
    sections = [
        f"# Model {name}",
        _training_data(data, parameters, result),
        *(_evaluation(part, report, accuracy[part]) for part, report in reports.items()),
        _limits(data, result, reports),
        f"## Licence\n\n{licence or 'Not stated.'}",
    ]
    return {"markdown": "\n\n".join(sections) + "\n", "licence": licence, "accuracy": accuracy}


def _accuracy(report: Report) -> dict[str, dict[str, float | None]]:
    intervals = report.evaluation.intervals()
    return {
        name: {
            key: None if math.isnan(number) else round(number, 4)
            for key, number in zip(("value", "low", "high"), (value, *intervals[name]), strict=True)
        }
        for name, value in report.evaluation.figures().items()
    }


def _training_data(data: TrainingSet, parameters: FitParameters, result: FitResult) -> str:
    parts = {part: list(getattr(result.parts, part)) for part in ("training", "validation", "test")}
    rows = [
        (
            part,
            len(rows),
            data.samples["sample_id"].iloc[rows].nunique(),
            ", ".join(sorted(set(data.columns(rows, "region")))),
        )
        for part, rows in parts.items()
    ]
    start = "" if parameters.continue_from_checkpoint is None else " It continues another checkpoint."
    header = result.header
    return "\n\n".join(
        [
            "## Data",
            f"Segments thaw slumps in {', '.join(header.bands)}, as `{header.architecture['arch']}` with "
            f"`{header.architecture.get('encoder_name')}`.{start} Terrain convention: `{header.terrain}`. Hash of the "
            f"training set: `{data.digest}`.",
            _table(("part", "patches", "images", "regions"), rows),
            *filter(None, [experts_sentence(data.experts)]),
        ]
    )


def experts_sentence(experts: Mapping[str, Any]) -> str:
    """How far the experts who labelled a set agree, which bounds the score of a model; "" with one label per image.

    Args:
        experts: see `TrainingSet.experts`.
    """
    if "mean_iou" not in experts:
        return ""
    mean, low, high = (experts[f"{name}_iou"] for name in ("mean", "lowest", "highest"))
    return (
        f"{experts['number']:.0f} experts outlined the slumps; the IoU of two of them is {mean:.3f} on average "
        f"({low:.3f} to {high:.3f}). A model is compared with their majority."
    )


def _evaluation(part: str, report: Report, accuracy: Mapping[str, Mapping[str, float | None]]) -> str:
    kinds = [rule.kind for rule, _ in report.baselines]
    compared = [evaluation.figures() for _, evaluation in report.baselines]
    figures = [
        (
            label,
            *(_shown(accuracy[name][key]) for key in ("value", "low", "high")),
            *(_shown(each[name]) for each in compared),
        )
        for name, label in _FIGURES.items()
    ]
    regions = [
        (name, _shown(figures["iou"]), figures["patches"])
        for name, figures in report.regions.items()
        if "iou" in figures
    ]
    shown = ("precision", "recall", "f1")
    sizes = [
        (row["size"], row["slumps"], row["detections"], *(_shown(row[name]) for name in shown))
        for row in report.evaluation.by_size()
    ]
    return "\n\n".join(
        [
            f"## Accuracy on the {part} part",
            f"Intervals: 95 %, by resampling {report.evaluation.unit}.",
            _table(("figure", "model", "from", "to", *kinds), figures),
            *([f"{report.verdict}."] if report.verdict else []),
            _table(("region", "IoU", "patches"), regions),
            _table(("objects of", "slumps", "detections", "precision", "recall", "F1"), sizes),
            f"Calibration error {_shown(report.reliability.error)}; the threshold with the highest IoU is "
            f"{_shown(report.best_threshold)}.",
        ]
    )


def _limits(data: TrainingSet, result: FitResult, reports: Mapping[str, Report]) -> str:
    regions = sorted(set(data.columns(result.parts.training, "region")))
    temperature = result.header.temperature
    chosen = (
        "the epoch" if temperature is None else f"the epoch and the temperature of the probabilities ({temperature})"
    )
    untested = "" if "test" in reports else " There is no test part."
    limits = [
        f"Trained in {len(regions)} region(s): {', '.join(regions)}. Accuracy elsewhere is unknown.",
        f"The validation part selected {chosen}, so figures on it are optimistic.{untested}",
        "Probabilities are calibrated for ground like that of the validation part, with its share of slumps.",
    ]
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _shown(value: Any) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.3g}"
