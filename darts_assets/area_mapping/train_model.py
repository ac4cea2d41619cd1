"""The command `darts-assets train`: from labels and images to a checkpoint, by the assets of a Dagster instance.

The steps are those of the group `training`: scenes or images are registered, preprocessed, cut into samples, assembled,
and a model is trained. Each step is a run of its own in Dagster; finished ones are not computed again.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.status import Status

from darts_assets.area_mapping.map_area import INTERRUPTED, AreaRequest, process
from darts_assets.area_mapping.missing_steps import missing_steps, steps_through
from darts_assets.area_mapping.publish_results import interruptible
from darts_assets.errors import DartsError, SceneError, SettingsError, TrainingError
from darts_assets.orchestration.core.error_handling import failure_message
from darts_assets.orchestration.core.partitions import PLANET, SENTINEL2, SceneFamily
from darts_assets.orchestration.core.run_owner import owner_tags
from darts_assets.orchestration.scene_discovery.discovery import find_and_register
from darts_assets.orchestration.scene_discovery.selection import SceneChoice
from darts_assets.orchestration.training.common import (
    DATASET,
    IMAGES,
    MATCHES,
    MODEL,
    PLANET_SAMPLES,
    POLYGON_SAMPLES,
    SCENES,
    SENTINEL2_SAMPLES,
)
from darts_assets.settings import Settings

MATCHED = "matched"
"""In place of images: the Sentinel-2 scenes that match the footprints of a label archive."""

_LEVELS = ("CRITICAL", "INFO", "DEBUG")
_SHOWN = 10  # failures


@dataclass(frozen=True)
class TrainRequest:
    """What to train a model from.

    Attributes:
        labels: a label archive, a vector file, or a folder with a vector file for each expert.
        images: Planet folders of an archive, or `MATCHED`; for other labels scenes: STAC items, GeoTIFFs, folders of
            them, or ids of scenes.
        samples: further config of the samples, such as `patch_size`.
        scenes: config of GeoTIFFs: `bands`, `offset`.
        model: config of `training/model`, such as `epochs`.
        dataset: name of the set.
        name: name of the model.
        workers: number of worker processes that preprocess scenes; None for what memory and processors allow.
        verbosity: 0 for our lines, 1 for Dagster's messages, 2 for its debug messages as well.
    """

    labels: str
    images: tuple[str, ...] = ()
    samples: Mapping[str, Any] = field(default_factory=dict)
    scenes: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    dataset: str = "default"
    name: str = "slumps"
    workers: int | None = None
    verbosity: int = 0


class StepFailedError(DartsError):
    """A step of the training failed; the message has the step and the reason."""


def train_model(request: TrainRequest, settings: Settings, defs: dg.Definitions, home: Path, console: Console) -> int:
    """Make samples and a set, train a model, and print its figures.

    Returns:
        The exit code: 0, or 130 after an interrupt.

    Raises:
        DartsError: if the request is invalid, or a step failed.
    """
    with dg.DagsterInstance.from_config(str(home)) as instance:
        training = _Training(request, settings, defs, instance, home, console)
        key, family, partitions, config = training.samples()
        ended_by = training.preprocess(family, partitions)
        if ended_by:
            return INTERRUPTED
        for number, partition in enumerate(partitions, 1):
            of_all = f" {number} of {len(partitions)}" if len(partitions) > 1 else ""
            training.step(f"Samples{of_all}", key, partition, config, _of_samples)
        training.step("Set", DATASET, None, {"dataset": request.dataset, **training.members(partitions)}, _of_set)
        model = {**request.model, "dataset": request.dataset, "name": request.name}
        made = training.step("Training", MODEL, None, model, _of_model)
        training.summarize(made)
    return 0


class _Training:
    """The steps of a training."""

    def __init__(
        self, request: TrainRequest, settings: Settings, defs: dg.Definitions, instance: dg.DagsterInstance,
        home: Path, console: Console,
    ) -> None:  # fmt: skip
        self._request, self._settings, self._defs = request, settings, defs
        self._instance, self._home, self._console = instance, home, console
        self._resources: dict[str, Any] = dict(defs.resources or {})
        self._is_archive = False

    def samples(self) -> tuple[dg.AssetKey, SceneFamily, list[str], dict[str, Any]]:
        """The asset of the samples, its family, partitions and config; registers scenes and images."""
        from darts_assets.training.labels import archive_files, read_archive

        request = self._request
        labels = Path(request.labels).expanduser()
        if not labels.exists():
            raise TrainingError(f"{request.labels}: there is no such file or folder of labels")
        self._is_archive = labels.is_dir() and bool(archive_files(labels))
        config = {**request.samples, "labels": request.labels, "dataset": request.dataset}
        if not self._is_archive:
            return POLYGON_SAMPLES, SENTINEL2, self._own_scenes(), config
        if "area" in config:
            raise SettingsError("an area is given, but a label archive has footprints of its images")
        archive = {"labels": request.labels, "dataset": request.dataset}
        store = self._settings.root.child("training", request.dataset)
        if request.images == (MATCHED,):
            from darts_assets.training.matching import best_matches, read_scores

            self.step("Matches", MATCHES, None, archive, _of_matches)
            ids = sorted(set(best_matches(read_scores(store.child("matches"))).values()))
            if not ids:
                raise TrainingError("no Sentinel-2 scene matches an image of the archive")
            self._register_ids(ids)
            return SENTINEL2_SAMPLES, SENTINEL2, ids, config
        where = {"layout": "anywhere", "folders": list(request.images)} if request.images else {}
        try:
            self.step("Images", IMAGES, None, {**archive, **where}, _of_images)
        except StepFailedError as error:
            raise StepFailedError(
                f"{error}. If Planet's deliveries lie elsewhere, give their folders by --images; for Sentinel-2 scenes "
                f"instead: --images {MATCHED}"
            ) from None
        from darts_assets.training.labelled_images import image_ids

        labelled = set(read_archive(labels).footprints["image_id"])
        ids = [image for image in image_ids(store) if image in labelled]
        return PLANET_SAMPLES, PLANET, ids, config

    def members(self, partitions: Sequence[str]) -> dict[str, Any]:
        """The samples of the set, if they are not all that have been made."""
        return {} if self._is_archive else {"samples": list(partitions)}

    def preprocess(self, family: SceneFamily, ids: Sequence[str]) -> str | None:
        """Preprocess what is missing; returns why the work ended early."""
        last = "preprocessed_tile"
        plan = missing_steps(self._instance, self._settings.root, family, ids, steps_through(last))
        if not plan:
            self._print(f"Preprocessing: {len(ids)} finished")
            return None
        request = AreaRequest(
            family, through=last, workers=self._request.workers, verbosity=self._request.verbosity,
            title="darts-assets train",
        )  # fmt: skip
        result = process(request, self._defs, self._instance, self._home, plan, self._console)
        if result.failed:
            reasons = "; ".join(f"{scene}: {reason}" for scene, reason in list(result.failed.items())[:_SHOWN])
            raise StepFailedError(f"preprocessing of {len(result.failed)} of {len(ids)} failed. {reasons}")
        return result.ended_by

    def step(
        self,
        title: str,
        key: dg.AssetKey,
        partition: str | None,
        config: Mapping[str, Any],
        figures: Callable[[Mapping[str, Any]], str],
    ) -> dict[str, Any]:
        """Materialize an asset with its checks and print a line; returns its metadata."""
        began = time.monotonic()
        level = _LEVELS[min(self._request.verbosity, 2)]
        assets = [asset for asset in self._defs.assets or () if isinstance(asset, dg.AssetsDefinition)]
        with self._console.status(title) as status, _shown(status, title), interruptible():
            result = dg.materialize(
                [*assets, *(self._defs.asset_checks or ())], selection=dg.AssetSelection.assets(key),
                partition_key=partition, instance=self._instance, resources=self._resources, raise_on_error=False,
                run_config={
                    "loggers": {"console": {"config": {"log_level": level}}},
                    "ops": {"__".join(key.path): {"config": dict(config)}},
                },
                tags=owner_tags(),
            )  # fmt: skip
        failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
        if any(failure.error_source and failure.error_source.name == "INTERRUPT" for failure in failures):
            raise KeyboardInterrupt
        if not result.success:
            reason = failure_message(failures[0]) if failures else "the run failed outside of its steps"
            raise StepFailedError(f"{title}: {reason} (run {result.run_id})")
        made = [event.materialization for event in result.get_asset_materialization_events()]
        values = {name: value.value for name, value in made[0].metadata.items()}
        self._print(f"{title}: {figures(values)} ({time.monotonic() - began:.0f} s)")
        for check in result.get_asset_check_evaluations():
            if not check.passed:
                raise StepFailedError(f"{title}: {check.check_name}: {check.description}")
        return values

    def summarize(self, made: Mapping[str, Any]) -> None:
        """Print where the model is, and how to use it."""
        if verdict := made.get("validation_verdict"):
            self._print(str(verdict))
        self._print(f"Model: {made['path']}. To map with it: DARTS_MODELS={self._request.name} darts-assets map ...")

    def _own_scenes(self) -> list[str]:
        request = self._request
        if not request.images:
            raise SettingsError("outlines need scenes: give STAC items, GeoTIFFs, folders of them, or ids by --images")
        located = [image for image in request.images if is_location(image)]
        ids = [image for image in request.images if not is_location(image)]
        if ids:
            self._register_ids(ids)
        if located:
            self.step("Scenes", SCENES, None, {"images": located, **request.scenes}, _of_scenes)
            from darts_assets.sources.stac.raster_item import items_at

            source, s3 = SENTINEL2.load_source(), self._resources["scenes"].access.options
            items = (item for place in located for item in items_at(place, request.scenes.get("bands", ()), s3))
            ids += [source.parse(item).id for item in items]
        return list(dict.fromkeys(ids))

    def _register_ids(self, ids: list[str]) -> None:
        done = find_and_register(
            SceneChoice(scene_ids=ids), instance=self._instance, scenes=self._resources["scenes"],
            catalogs=self._resources["catalogs"], dry_run=False, log=logging.getLogger(__name__).info,
        )  # fmt: skip
        if missing := sorted(set(ids) - set(done.registered.scene_ids)):
            raise SceneError("; ".join(done.problems[:_SHOWN]) or f"scenes were not found: {', '.join(missing)}")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False, markup=False)


def is_location(image: str) -> bool:
    """Whether an image is given by its path or URL, not by its id."""
    return "/" in image or image.lower().endswith((".json", ".tif", ".tiff", ".safe", ".zip")) or Path(image).exists()


def _of_scenes(values: Mapping[str, Any]) -> str:
    return f"{len(values['scenes'])} registered, {values['new']} of them new"


def _of_images(values: Mapping[str, Any]) -> str:
    return f"{values['found']} of {values['images']} labelled images are there"


def _of_matches(values: Mapping[str, Any]) -> str:
    return f"{values['matched']} of {values['images']} labelled images have a Sentinel-2 scene"


def _of_samples(values: Mapping[str, Any]) -> str:
    patches = values["patches"]
    count = sum(patches.values()) if isinstance(patches, dict) else patches
    return "; ".join([f"{count} patches", *values.get("choices", ())])


def _of_set(values: Mapping[str, Any]) -> str:
    images = f"{values['samples']} image{'' if values['samples'] == 1 else 's'}"
    text = f"{values['patches']} patches of {images}, {values['with_slumps']} with slumps"
    if "mean_iou_of_experts" in values:
        text += f"; mean IoU between experts {values['mean_iou_of_experts']:.2f}"
    return text


def _of_model(values: Mapping[str, Any]) -> str:
    figures = values.get("validation", {})
    iou = figures.get("iou", "undefined")
    return "; ".join([*values.get("split", ()), f"{values['epochs']} epochs, IoU of the validation {iou}"])


@contextmanager
def _shown(status: Status, title: str) -> Iterator[None]:
    """Show the lines that the training logs beside the title of the step."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            status.update(f"{title}: {record.getMessage()[:100]}")

    logger, handler = logging.getLogger("darts_assets.training"), Handler(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
