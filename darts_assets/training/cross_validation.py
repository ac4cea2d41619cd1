"""Cross-validation: results of the folds in a store, and their summary.

models/cross_validation/<name>/<fold>.json   results of a fold
models/<name>-fold<fold>.ckpt                its model
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import obstore
import pandas as pd
from PIL.Image import Image

from darts_assets.errors import SettingsError, TrainingError
from darts_assets.plots import new_figure, render
from darts_assets.stores.location import StoreLocation
from darts_assets.training.evaluation import Evaluation, difference
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.splits import folds_of
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.trained_model import TrainedModel

FIGURES = ("iou", "f1", "precision", "recall", "boundary_iou", "object_precision", "object_recall", "object_f1")
"""Figures of the summary."""

_FOLDER = "cross_validation"


@dataclass(frozen=True, eq=False)
class FoldResult:
    """Result of a fold.

    Attributes:
        fold: its number, from 0.
        folds: number of folds.
        setup: set and parameters, the same in all folds of a cross-validation.
        model: name of the model in the store.
        sha256: hash of its checkpoint.
        patches: number of validation patches.
        temperature: temperature of the model.
        predictions: `model`, or kind of a baseline -> its evaluation on the validation part.
    """

    fold: int
    folds: int
    setup: str
    model: str
    sha256: str
    patches: int
    temperature: float | None
    predictions: dict[str, Evaluation]


@dataclass(frozen=True, eq=False)
class Summary:
    """Summary of the folds of a cross-validation.

    Attributes:
        folds: results of the folds.
        pooled: evaluation of all folds together, by prediction: each patch is validated once.
    """

    folds: list[FoldResult]
    pooled: dict[str, Evaluation]

    @property
    def models(self) -> str:
        """Value of `DARTS_MODELS` for the ensemble of all folds."""
        return ",".join(fold.model for fold in self.folds)

    @property
    def best_baseline(self) -> str:
        """Kind of the baseline with the highest IoU over all folds; "" without baselines."""
        ious = {kind: each.figures()["iou"] for kind, each in self.pooled.items() if kind != "model"}
        return max(ious, key=lambda kind: np.nan_to_num(ious[kind], nan=-1)) if ious else ""

    @property
    def verdict(self) -> str:
        """Sentence that compares the models with the best baseline over all folds; "" without baselines."""
        kind = self.best_baseline
        if not kind:
            return ""
        change, (low, high) = difference(self.pooled["model"], self.pooled[kind])
        better = change > 0 if np.isnan(low) else low > 0
        interval = "" if np.isnan(low) else f", 95 % interval {low:+.3f} to {high:+.3f}"
        iou = self.pooled[kind].figures()["iou"]
        return (
            f"{'Better' if better else 'No better'} than the {kind} (IoU {iou:.3f}): difference {change:+.3f}{interval}"
        )

    def table(self) -> pd.DataFrame:
        """A row for each fold, their mean and standard deviation, and all folds together with a 95 % interval."""
        rows = []
        for fold in self.folds:
            figures = fold.predictions["model"].figures()
            low, high = fold.predictions["model"].intervals()["iou"]
            regions = ", ".join(sorted(set(fold.predictions["model"].tiles["region"])))
            rows.append(
                {
                    "fold": str(fold.fold), "regions": regions, "patches": fold.patches, "low": low, "high": high,
                    "baseline": _best(fold.predictions), **{name: figures[name] for name in FIGURES},
                }
            )  # fmt: skip
        table = pd.DataFrame(rows)
        numbers = table.drop(columns=["fold", "regions"])
        summary = pd.DataFrame(
            [
                {"fold": "mean", **numbers.mean().to_dict(), "low": np.nan, "high": np.nan},
                {"fold": "standard deviation", **numbers.std().to_dict(), "low": np.nan, "high": np.nan},
                {"fold": "all", **self._row(self.pooled), "patches": numbers["patches"].sum()},
            ]
        )
        return pd.concat([table, summary], ignore_index=True)

    def regions(self) -> pd.DataFrame:
        """A row for each region, over all folds, with a 95 % interval of its IoU."""
        names = sorted(set(self.pooled["model"].tiles["region"]))
        parts = {name: {kind: each.of("region", name) for kind, each in self.pooled.items()} for name in names}
        return pd.DataFrame([{"region": name, **self._row(part)} for name, part in parts.items()])

    @staticmethod
    def _row(predictions: Mapping[str, Evaluation]) -> dict[str, Any]:
        figures = predictions["model"].figures()
        low, high = predictions["model"].intervals()["iou"]
        return {
            "low": low, "high": high, "baseline": _best(predictions), **{name: figures[name] for name in FIGURES},
        }  # fmt: skip


def fold_parameters(parameters: FitParameters, fold: int, data: TrainingSet) -> FitParameters:
    """The parameters of a fold.

    Raises:
        SettingsError: if `fold` is set in the parameters, or the set has fewer folds.
    """
    if parameters.fold:
        raise SettingsError("fold cannot be set: each partition is a fold")
    count = folds_of(data.samples, parameters).count
    if fold >= count:
        raise SettingsError(
            f"fold {fold}: the set has {count} folds with these parameters, so partitions 0 to {count - 1}"
        )
    values = {name: getattr(parameters, name) for name in FitParameters.model_fields}
    return FitParameters(**{**values, "folds": count, "fold": fold})


def setup_of(parameters: FitParameters, data: TrainingSet, start: str | None) -> str:
    """Set, parameters and checkpoint that the folds of a cross-validation share, as JSON."""
    unimportant = {"fold", "device", "readers", "loggers", "wandb_project", "wandb_entity"}
    values = {name: getattr(parameters, name) for name in FitParameters.model_fields if name not in unimportant}
    return json.dumps({"data": data.digest, "start": start, **values}, sort_keys=True)


def fold_result(trained: TrainedModel, parameters: FitParameters, model: str, setup: str) -> FoldResult:
    """The result of a fold."""
    report = trained.reports["validation"]
    return FoldResult(
        parameters.fold, int(parameters.folds or 0), setup, model, trained.sha256, len(trained.result.parts.validation),
        trained.result.header.temperature,
        {"model": report.evaluation, **{rule.kind: evaluation for rule, evaluation in report.baselines}},
    )  # fmt: skip


def write_fold(models: StoreLocation, name: str, result: FoldResult) -> None:
    """Write the result of a fold."""
    predictions = {
        kind: {part: json.loads(getattr(each, part).to_json(orient="split")) for part in ("tiles", "objects")}
        for kind, each in result.predictions.items()
    }
    content = {
        **{key: value for key, value in vars(result).items() if key != "predictions"},
        "predictions": predictions,
    }
    obstore.put(models.child(_FOLDER, name).objects(), f"{result.fold}.json", json.dumps(content).encode())


def summarize(models: StoreLocation, name: str) -> Summary:
    """The summary of a cross-validation.

    Raises:
        TrainingError: if folds are missing, or differ in set or parameters.
    """
    folder = models.child(_FOLDER, name)
    numbers = sorted(int(key.removesuffix(".json")) for key in sorted(folder.keys()) if key.endswith(".json"))
    if not numbers:
        raise TrainingError(
            f"cross-validation {name}: no fold is trained; materialize the partitions of training/folds"
        )
    read = [_read(folder, number) for number in numbers]
    setups = {fold.setup for fold in read}
    if len(setups) > 1:
        one, other = (json.loads(setup) for setup in sorted(setups)[:2])
        keys = [key for key in one if one[key] != other.get(key)]
        raise TrainingError(
            f"cross-validation {name}: the folds differ in {', '.join(keys)}; train them with the same config, "
            "or give the new ones another name"
        )
    missing = [number for number in range(read[0].folds) if number not in numbers]
    if missing:
        raise TrainingError(
            f"cross-validation {name}: of {read[0].folds} folds, {', '.join(map(str, missing))} are missing; "
            "materialize these partitions of training/folds"
        )
    kinds = [kind for kind in read[0].predictions if all(kind in fold.predictions for fold in read)]
    return Summary(read, {kind: _pooled([fold.predictions[kind] for fold in read]) for kind in kinds})


def fold_chart(summary: Summary) -> Image:
    """IoU of each fold and region with its interval, the best baseline of each, and the mean of the folds."""
    folds = summary.table()
    mean = float(folds.loc[folds["fold"] == "mean", "iou"].iloc[0])
    spread = float(folds.loc[folds["fold"] == "standard deviation", "iou"].iloc[0])
    folds = folds.iloc[: len(summary.folds)].assign(label=lambda table: "fold " + table["fold"])
    regions = summary.regions().assign(label=lambda table: table["region"])
    rows = pd.concat([folds, regions], ignore_index=True)[::-1].reset_index(drop=True)
    figure = new_figure(520, 90 + 24 * len(rows), layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    colours = ["tab:blue" if label.startswith("fold ") else "tab:green" for label in rows["label"]]
    axes.barh(places, rows["iou"].fillna(0), color=colours, height=0.6, label="model")
    low, high = ((rows[name] - rows["iou"]).abs().fillna(0) for name in ("low", "high"))
    axes.errorbar(rows["iou"].fillna(0), places, xerr=[low, high], fmt="none", ecolor="0.2", capsize=2, linewidth=0.8)
    axes.plot(rows["baseline"], places, "k|", markersize=12, label="best baseline")
    axes.axvline(mean, color="0.5", linewidth=0.8)
    axes.set_yticks(places, rows["label"], fontsize=7)
    axes.set_xlim(0, 1)
    axes.tick_params(labelsize=7, length=2)
    axes.set_xlabel("IoU", fontsize=8)
    axes.set_title(f"mean of {len(folds)} folds {mean:.3f}, standard deviation {spread:.3f}", fontsize=8)
    figure.legend(fontsize=7, frameon=False, loc="outside lower center", ncols=2)
    return render(figure)


def _read(folder: StoreLocation, number: int) -> FoldResult:
    content = json.loads(bytes(obstore.get(folder.objects(), f"{number}.json").bytes()))
    predictions = {
        kind: Evaluation(
            *(pd.DataFrame(tables[part]["data"], columns=tables[part]["columns"]) for part in ("tiles", "objects"))
        )
        for kind, tables in content.pop("predictions").items()
    }
    return FoldResult(**content, predictions=predictions)


def _pooled(evaluations: Sequence[Evaluation]) -> Evaluation:
    """All folds as one; blocks keep the number of their fold."""
    tables = {
        part: pd.concat(
            [
                getattr(each, part).assign(block=lambda table, n=number: f"{n}/" + table["block"])
                for number, each in enumerate(evaluations)
            ],
            ignore_index=True,
        )
        for part in ("tiles", "objects")
    }
    return Evaluation(**tables)


def _best(predictions: Mapping[str, Evaluation]) -> float:
    """Highest IoU of the baselines; NaN without one."""
    ious = [each.figures()["iou"] for kind, each in predictions.items() if kind != "model"]
    return float(np.nanmax(ious)) if np.isfinite(ious).any() else float("nan")
