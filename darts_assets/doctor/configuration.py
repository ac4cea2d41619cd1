"""Checks of settings: models, Dagster instance, folders, watched areas, rasters, notifications."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import dagster as dg

from darts_assets.bands import AuxiliaryLayer, auxiliary_layers
from darts_assets.doctor.findings import Finding
from darts_assets.errors import DartsError, SettingsError
from darts_assets.orchestration.core.partitions import FAMILIES
from darts_assets.orchestration.core.resources import Models, SourceAccess
from darts_assets.orchestration.run_monitoring.dead_runs import COMMAND, EndedRuns, dead_runs
from darts_assets.orchestration.run_monitoring.failure_notifier import build_notifier
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders
from darts_assets.orchestration.scene_discovery.watched_areas import Watch
from darts_assets.settings import Settings

_HOME = "export DAGSTER_HOME=$PWD/dagster-home && mkdir -p $DAGSTER_HOME"


def check_models(models: Models, layers: Sequence[AuxiliaryLayer]) -> Iterator[Finding]:
    """Check each checkpoint, then the ensemble, without loading PyTorch."""
    valid = True
    for checkpoint in models.checkpoints or [""]:
        try:
            (header,) = Models(store=models.store, checkpoints=[checkpoint] if checkpoint else []).headers
        except DartsError as error:
            valid = False
            yield Finding("model", "fail", str(error), "Set DARTS_MODELS to a comma-separated list of checkpoints.")
            continue
        arch = header.architecture
        message = (
            f"{header.name}: {arch['arch']}, {arch.get('encoder_name', 'resnet34')}, {len(header.bands)} bands "
            f"({', '.join(header.bands)}), terrain {header.terrain or 'unspecified'}, sha256 {header.sha256[:16]}"
        )
        if checkpoint:
            yield Finding("model", "ok", message)
        else:
            advice = (
                "This model segments only in the store of a demo. Set DARTS_MODELS to a checkpoint for real scenes."
            )
            yield Finding("model", "warn", f"{message} (demo model)", advice)
    if not valid:
        return
    try:
        bands = models.bands
        _ = models.terrain
    except DartsError as error:
        yield Finding(
            "models together",
            "fail",
            str(error),
            "All models of an ensemble need the same terrain convention: see DARTS_MODELS.",
        )
        return
    for layer in auxiliary_layers(bands):
        if layer not in layers:
            message = f"the models need {layer}, which DARTS_AUXILIARY does not include: its features will be empty"
            yield Finding("models together", "warn", message, f"Add {layer} to DARTS_AUXILIARY, or use other models.")


def check_dagster() -> Iterator[Finding]:
    """Check the Dagster instance in DAGSTER_HOME."""
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        message = "DAGSTER_HOME is not set: registered scenes and materializations would be lost"
        yield Finding("Dagster", "fail", message, _HOME)
        return
    if not Path(home).is_absolute() or not Path(home).is_dir():
        yield Finding("Dagster", "fail", f"DAGSTER_HOME={home} is not an absolute path of an existing folder", _HOME)
        return
    try:
        with dg.DagsterInstance.get() as instance:
            counts = [
                f"{len(instance.get_dynamic_partitions(str(family.partitions.name)))} {family.name}"
                for family in FAMILIES.values()
            ]
            dead = dead_runs(instance)
    except Exception as error:  # database unavailable, invalid YAML, instance to be migrated
        message = str(error).strip().partition("\n")[0][:300]
        advice = f"Check {home}/dagster.yaml. After an upgrade, run `dagster instance migrate`."
        yield Finding("Dagster", "fail", f"the instance in {home} cannot be opened: {message}", advice)
        return
    yield Finding("Dagster", "ok", f"{home}: registered scenes: {', '.join(counts)}")
    yield from _dead_runs(dead)


def _dead_runs(dead: EndedRuns) -> Iterator[Finding]:
    for run, reason in dead.ended.items():
        yield Finding("runs", "warn", f"run {run} is recorded as running: {reason}", f"Run `{COMMAND}`.")
    for run, pools in dead.freed.items():
        if run not in dead.ended:
            message = f"run {run} has ended and claims slots of the pools {', '.join(pools)}: other steps wait for them"
            yield Finding("pools", "warn", message, f"Run `{COMMAND}`.")
    for run, reason in dead.undecided.items():
        yield Finding("runs", "ok", f"run {run}: {reason}")


def check_deliveries(deliveries: DeliveryFolders) -> Iterator[Finding]:
    """Check the folders of Planet deliveries."""
    if not deliveries.folders:
        return
    from darts_assets.sources.folders import list_files

    for folder in deliveries.folders:
        problems: list[str] = []
        try:
            deliveries.check([folder])
            count = len(list(islice(list_files(folder, deliveries.s3, problems), 1000)))
        except DartsError as error:
            yield Finding("Planet", "fail", str(error), "Check DARTS_PLANET.")
            continue
        if problems:
            yield Finding("Planet", "warn", f"{folder}: {problems[0]}", "Grant this user read permission.")
        else:
            yield Finding("Planet", "ok", f"{folder}: {'1000 or more' if count == 1000 else count} files")


def check_watch(watch: Watch, access: SourceAccess) -> Iterator[Finding]:
    """Check the file of watched areas, and each area."""
    if watch.path is None:
        return
    advice = "Check DARTS_WATCH."
    try:
        watched = watch.read(access.options)
    except DartsError as error:
        yield Finding("watched areas", "fail", str(error), advice)
        return
    invalid = dict(watched.invalid)
    for area in watched.areas:
        try:
            area.selection(watch.folder, access.options)
        except DartsError as error:
            invalid[area.name] = str(error)
    for name, reason in invalid.items():
        yield Finding("watched areas", "fail", f"{watch.path}, {name}: {reason}", advice)
    valid = [area.name for area in watched.areas if area.name not in invalid]
    if valid:
        yield Finding("watched areas", "ok", f"{watch.path}: {', '.join(valid)}")


def check_rasters(current: Settings) -> Iterator[Finding]:
    """Check ArcticDEM and TCVIS files on this machine."""
    paths = {"arcticdem": current.arcticdem, "tcvis": current.tcvis}
    for layer, path in paths.items():
        if layer not in current.auxiliary or path is None or "://" in path:
            continue
        pattern = Path(path.replace("{vintage}", "*")).absolute()
        if any(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))):
            yield Finding(layer, "ok", path)
        else:
            yield Finding(layer, "fail", f"{path}: no such file", f"Check DARTS_{layer.upper()}.")


def check_notifier(current: Settings) -> Iterator[Finding]:
    """Check the notifier of failed runs without sending a notification."""
    try:
        notifier = build_notifier(current)
    except SettingsError as error:
        yield Finding("failed runs", "fail", str(error), "Check DARTS_NOTIFY_WEBHOOK.")
        return
    service = getattr(notifier, "service", None)
    yield Finding("failed runs", "ok", f"reported to the webhook at {service}" if service else "reported in the log")
