"""Accuracy on the Peel Plateau: strips that a model has not seen, against baselines, experts and other starting points.

`python -m tests.benchmarks.peel_training --epochs 10 --seeds 3` trains a model for each of four strips, from random
weights and from the demo model, and prints IoU with the majority of 12 experts with 95 % intervals over squares.
"""

import argparse
import os
import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np

from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.model import read_header
from darts_assets.stores.location import StoreLocation
from darts_assets.training.evaluation import Evaluation, difference, evaluate
from darts_assets.training.fit.baselines import BaselinePredictor
from darts_assets.training.fit.fit_parameters import FitParameters
from darts_assets.training.fit.trainer import fit
from darts_assets.training.fit.training_set import TrainingSet
from darts_assets.training.report import Predictor
from darts_assets.training.set_store import TrainingSetStore
from darts_assets.training.stitching import Stitched, stitched
from tests.training.fit.test_peel import SIDE, STRIPS, Peel, iou

STARTS = {"scratch": None, "demo model": str(DEMO_CHECKPOINT)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    options = parser.parse_args()
    peel = Peel(Path(os.environ["DARTS_ASSETS_TEST_DATA"]) / "data" / "rts_digitization_experiment")
    pairs = [iou(one, other) for one, other in combinations(peel.experts, 2)]
    others = [
        iou(one, np.sum([each for each in peel.experts if each is not one], axis=0) > 5.5) for one in peel.experts
    ]
    print(f"experts: pairwise IoU {spread(pairs)}, each against the majority of the others {spread(others)}")
    with tempfile.TemporaryDirectory() as folder:
        data = peel.make_set(TrainingSetStore(StoreLocation(str(Path(folder) / "peel"))))
        for seed in range(options.seeds):
            runs = {name: run(data, start, seed, options, Path(folder)) for name, start in STARTS.items()}
            if seed == 0:
                for kind, result in runs["scratch"].items():
                    if kind != "model":
                        print(f"{kind}: {told(result)}", flush=True)
            for name, results in runs.items():
                best = max((result for kind, result in results.items() if kind != "model"), key=score)
                change, (low, high) = difference(results["model"], best)
                print(f"seed {seed}, {name}: {told(results['model'])}; minus the best baseline {change:+.3f} "
                      f"({low:+.3f} to {high:+.3f})", flush=True)  # fmt: skip
            change, (low, high) = difference(runs["demo model"]["model"], runs["scratch"]["model"])
            print(f"seed {seed}, demo model minus scratch: {change:+.3f} ({low:+.3f} to {high:+.3f})", flush=True)


def run(
    data: TrainingSet, start: str | None, seed: int, options: argparse.Namespace, folder: Path
) -> dict[str, Evaluation]:
    """Evaluation of the models and baselines on the strips that they have not seen."""
    header = read_header(DEMO_CHECKPOINT)
    network = (
        {}
        if start
        else {"architecture": {k: v for k, v in header.architecture.items() if k not in {"in_channels", "classes"}}}
    )
    images: dict[str, list[Stitched]] = {}
    for strip in range(STRIPS):
        parameters = FitParameters(
            continue_from_checkpoint=start, **network, split_by="sample", folds=3, test=[f"strip{strip}"], seed=seed,
            augmentations=["turn", "mirror", "brightness"], epochs=options.epochs, patience=options.epochs,
            batch_size=16, learning_rate=options.learning_rate, device="cpu", distance=0,
        )  # fmt: skip
        result = fit(data, parameters, folder / "strip.ckpt", start=header if start else None)
        predictors = {"model": Predictor(result.header, data, "cpu")}
        predictors |= {rule.kind: BaselinePredictor(rule, data) for rule in result.baselines}
        for name, predictor in predictors.items():
            images.setdefault(name, []).extend(stitched(predictor, data, result.parts.test, 16))
    return {name: evaluate(each, SIDE) for name, each in images.items()}


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def score(result: Evaluation) -> float:
    return result.figures()["iou"]


def told(result: Evaluation) -> str:
    figures, (low, high) = result.figures(), result.intervals()["iou"]
    strips = [result.of("sample_id", name).figures()["iou"] for name in sorted(set(result.tiles["sample_id"]))]
    shown = ", ".join(f"{value:.3f}" for value in strips)
    return (
        f"IoU {figures['iou']:.3f} ({low:.3f} to {high:.3f}; strips {shown}), "
        f"boundary IoU {figures['boundary_iou']:.3f}, objects F1 {figures['object_f1']:.3f}, "
        f"Brier {figures['brier']:.4f}"
    )


if __name__ == "__main__":
    main()
