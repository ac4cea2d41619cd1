"""What settings point to: models, Dagster's instance, folders, watched areas, rasters, who is told of failures."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import dagster as dg

from darts_assets.bands import AuxiliaryLayer, auxiliary_layers
from darts_assets.doctor.findings import Finding
from darts_assets.errors import DartsError, SettingsError
from darts_assets.orchestration.core.models import Models
from darts_assets.orchestration.core.partitions import FAMILIES
from darts_assets.orchestration.core.source_resources import SourceAccess
from darts_assets.orchestration.run_monitoring.failure_notifier import build_notifier
from darts_assets.orchestration.scene_discovery.planet_selection import DeliveryFolders
from darts_assets.orchestration.scene_discovery.watched_areas import Watch
from darts_assets.settings import Settings

_HOME = "export DAGSTER_HOME=$PWD/dagster-home && mkdir -p $DAGSTER_HOME"


def check_models(models: Models, layers: Sequence[AuxiliaryLayer]) -> Iterator[Finding]:
    """Each checkpoint by itself, then all of them as an ensemble; PyTorch is not loaded."""
    fine = True
    for checkpoint in models.checkpoints or [""]:
        try:
            (header,) = Models(store=models.store, checkpoints=[checkpoint] if checkpoint else []).headers
        except DartsError as error:
            fine = False
            yield Finding("model", "fail", str(error), "See DARTS_MODELS: checkpoints, comma-separated.")
            continue
        arch = header.architecture
        said = (
            f"{header.name}: {arch['arch']}, {arch.get('encoder_name', 'resnet34')}, {len(header.bands)} bands "
            f"({', '.join(header.bands)}), terrain {header.terrain or 'not named'}, sha256 {header.sha256[:16]}"
        )
        if checkpoint:
            yield Finding("model", "ok", said)
        else:
            advice = "It knows an artificial Arctic only. Set DARTS_MODELS to a checkpoint for real scenes."
            yield Finding("model", "warn", f"{said}: the demo's", advice)
    if not fine:
        return
    try:
        bands = models.bands
        _ = models.terrain
    except DartsError as error:
        yield Finding("models together", "fail", str(error), "Models of an ensemble must go together: DARTS_MODELS.")
        return
    for layer in auxiliary_layers(bands):
        if layer not in layers:
            said = f"the models need {layer}, which is left out (DARTS_AUXILIARY): its features will be empty"
            yield Finding("models together", "warn", said, f"Add {layer} to DARTS_AUXILIARY, or use other models.")


def check_dagster() -> Iterator[Finding]:
    """The instance that DAGSTER_HOME names."""
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        said = "DAGSTER_HOME is not set: what is registered and materialized would be forgotten"
        yield Finding("Dagster", "fail", said, _HOME)
        return
    if not Path(home).is_absolute() or not Path(home).is_dir():
        yield Finding("Dagster", "fail", f"DAGSTER_HOME={home} is not an absolute path of a folder", _HOME)
        return
    try:
        with dg.DagsterInstance.get() as instance:
            counts = [
                f"{len(instance.get_dynamic_partitions(str(family.partitions.name)))} {family.name}"
                for family in FAMILIES.values()
            ]
    except Exception as error:  # a database that is not there, a file that is no YAML, a version to be migrated
        said = str(error).strip().partition("\n")[0][:300]
        advice = f"See {home}/dagster.yaml; `dagster instance migrate` after an upgrade."
        yield Finding("Dagster", "fail", f"the instance in {home} does not open: {said}", advice)
        return
    yield Finding("Dagster", "ok", f"{home} opens; registered scenes: {', '.join(counts)}")


def check_deliveries(deliveries: DeliveryFolders) -> Iterator[Finding]:
    """The folders that Planet delivers to."""
    if not deliveries.folders:
        return
    from darts_assets.sources.planet.folders import list_files

    for folder in deliveries.folders:
        problems: list[str] = []
        try:
            deliveries.check([folder])
            found = len(list(islice(list_files(folder, deliveries.s3, problems), 1000)))
        except DartsError as error:
            yield Finding("Planet", "fail", str(error), "See DARTS_PLANET.")
            continue
        if problems:
            yield Finding("Planet", "warn", f"{folder}: {problems[0]}", "Let this user read it.")
        else:
            yield Finding("Planet", "ok", f"{folder}: {'1000 or more' if found == 1000 else found} files")


def check_watch(watch: Watch, access: SourceAccess) -> Iterator[Finding]:
    """The file of watched areas, and the area of each."""
    if watch.path is None:
        return
    advice = "See DARTS_WATCH."
    try:
        watched = watch.read(access.options)
    except DartsError as error:
        yield Finding("watched areas", "fail", str(error), advice)
        return
    wrong = dict(watched.invalid)
    for area in watched.areas:
        try:
            area.selection(watch.folder, access.options)
        except DartsError as error:
            wrong[area.name] = str(error)
    for name, reason in wrong.items():
        yield Finding("watched areas", "fail", f"{watch.path}, {name}: {reason}", advice)
    right = [area.name for area in watched.areas if area.name not in wrong]
    if right:
        yield Finding("watched areas", "ok", f"{watch.path}: {', '.join(right)}")


def check_rasters(current: Settings) -> Iterator[Finding]:
    """Elevations and trends that are files on this machine."""
    places = {"arcticdem": current.arcticdem, "tcvis": current.tcvis}
    for layer, place in places.items():
        if layer not in current.auxiliary or place is None or "://" in place:
            continue
        pattern = Path(place.replace("{vintage}", "*")).absolute()
        if any(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))):
            yield Finding(layer, "ok", place)
        else:
            yield Finding(layer, "fail", f"{place}: there is no such file", f"See DARTS_{layer.upper()}.")


def check_notifier(current: Settings) -> Iterator[Finding]:
    """Who is told of failed runs; nobody is told now."""
    try:
        notifier = build_notifier(current)
    except SettingsError as error:
        yield Finding("failed runs", "fail", str(error), "See DARTS_NOTIFY_WEBHOOK.")
        return
    service = getattr(notifier, "service", None)
    yield Finding("failed runs", "ok", f"a webhook at {service} is told" if service else "the log is told")
