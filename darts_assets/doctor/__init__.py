"""`darts-assets doctor`: checks of a setup, with advice for each problem.

Each check is a generator of findings with a time limit; an exception becomes a failed finding.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from darts_assets.doctor import configuration, credentials, machine, store, web
from darts_assets.doctor.findings import Finding, Report
from darts_assets.errors import DartsError
from darts_assets.settings import Settings

__all__ = ["Finding", "Report", "examine"]

_TIME_LIMIT = 45.0
"""Seconds per check; clients of stores and services would retry for minutes."""


def examine(current: Settings, resources: Mapping[str, Any], *, device: str, offline: bool) -> Report:
    """Check everything that the settings refer to.

    Args:
        current: settings.
        resources: resources of the code location for these settings.
        device: device of the models, as in `SegmentationConfig`.
        offline: contact no service except the store.
    """
    catalogs, models, cubes = resources["catalogs"], resources["models"], resources["cubes"]
    access = catalogs.access
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "versions": machine.check_versions,
        "GDAL": machine.check_geography,
        "machine": machine.check_memory,
        "temporary files": machine.check_temporary,
        "device": lambda: machine.check_device(device),
        "Dagster": configuration.check_dagster,
        "store": lambda: store.check_store(current.root, current.executor),
        **{
            f"store: {room}": partial(store.check_store, location, current.executor, room)
            for room, location in current.root.rooms
        },
        "model": lambda: configuration.check_models(models, current.auxiliary),
        "rasters": lambda: configuration.check_rasters(current),
        "keys to scenes": lambda: credentials.check_scene_keys(catalogs),
        "Earth Engine": lambda: credentials.check_earth_engine(
            access.earth_engine, required=current.tcvis is None and "tcvis" in _layers(cubes, models), offline=offline
        ),
        "services": lambda: web.check_services(_services(current, catalogs, cubes, models), offline=offline),
        "Planet": lambda: configuration.check_deliveries(resources["deliveries"]),
        "watched areas": lambda: configuration.check_watch(resources["watch"], access),
        "failed runs": lambda: configuration.check_notifier(current),
    }
    findings = [finding for name, check in checks.items() for finding in _limited(name, check)]
    return Report(tuple(findings))


def _services(current: Settings, catalogs: Any, cubes: Any, models: Any) -> dict[str, str]:
    """URLs of the services that a chain with these settings uses."""
    from darts_assets.sources.stac.services import SERVICES

    provider, _ = catalogs.default()
    url = current.cdse_url if provider == "cdse" else current.earth_search_url
    services = {f"catalog ({provider})": url or SERVICES[provider].url}
    if current.arcticdem.startswith(("http://", "https://")) and "arcticdem" in _layers(cubes, models):
        services["arcticdem"] = current.arcticdem
    return services


def _layers(cubes: Any, models: Any) -> list[str]:
    """The auxiliary layers that the models need; all layers if the models cannot be read."""
    try:
        return list(cubes.layers_for(models.bands))
    except DartsError:
        return list(cubes.layers)


def _limited(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Findings of a check within the time limit. Its thread is abandoned after that."""
    findings: list[Finding] = []

    def work() -> None:
        try:
            findings.extend(check())
        except DartsError as error:
            findings.append(Finding(name, "fail", str(error)))
        except Exception as error:
            message = str(error).strip().partition("\n")[0]
            findings.append(
                Finding(
                    name,
                    "fail",
                    f"{type(error).__name__}: {message}",
                    "Unexpected error of this check (please report it).",
                )
            )

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    thread.join(_TIME_LIMIT)
    late = [
        Finding(
            name, "fail", f"no response within {_TIME_LIMIT:g} s", "Check the network and the status of the service."
        )
    ]
    return [*findings, *late] if thread.is_alive() else findings
