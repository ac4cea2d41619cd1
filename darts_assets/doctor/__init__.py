"""`darts-assets doctor`: whether a chain could run here, and what to do where it could not.

Each check is a generator of findings with a time limit; what it raises becomes a finding as well.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from darts_assets.doctor import configuration, credentials, machine, store, web
from darts_assets.doctor.findings import Finding, Report, without_secrets
from darts_assets.errors import DartsError
from darts_assets.settings import Settings

__all__ = ["Finding", "Report", "examine"]

_SECONDS = 45.0
"""That a check may take; clients of stores and services try for minutes."""


def examine(current: Settings, resources: Mapping[str, Any], *, device: str, offline: bool) -> Report:
    """Look at everything that the settings ask for.

    Args:
        current: settings.
        resources: of the code location, made from the settings.
        device: that models are to run on, as in `SegmentationConfig`.
        offline: ask no service, but the store.
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
        "model": lambda: configuration.check_models(models, current.auxiliary),
        "rasters": lambda: configuration.check_rasters(current),
        "keys to scenes": lambda: credentials.check_scene_keys(catalogs),
        "Earth Engine": lambda: credentials.check_earth_engine(
            access.earth_engine, wanted=current.tcvis is None and "tcvis" in _layers(cubes, models), offline=offline
        ),
        "services": lambda: web.check_services(_services(current, catalogs, cubes, models), offline=offline),
        "Planet": lambda: configuration.check_deliveries(resources["deliveries"]),
        "watched areas": lambda: configuration.check_watch(resources["watch"], access),
        "failed runs": lambda: configuration.check_notifier(current),
    }
    found = [finding for name, check in checks.items() for finding in _in_time(name, check)]
    return Report(tuple(without_secrets(found)))


def _services(current: Settings, catalogs: Any, cubes: Any, models: Any) -> dict[str, str]:
    """The services that a chain with these settings asks."""
    from darts_assets.sources.stac.services import SERVICES

    provider, _ = catalogs.default()
    named = current.cdse_url if provider == "cdse" else current.earth_search_url
    services = {f"catalog ({provider})": named or SERVICES[provider].url}
    if current.arcticdem.startswith(("http://", "https://")) and "arcticdem" in _layers(cubes, models):
        services["arcticdem"] = current.arcticdem
    return services


def _layers(cubes: Any, models: Any) -> list[str]:
    """The auxiliary layers that are fetched; all in use if the models cannot be read."""
    try:
        return list(cubes.layers_for(models.bands))
    except DartsError:
        return list(cubes.layers)


def _in_time(name: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What a check finds before its time is up, in a thread that may be left behind."""
    found: list[Finding] = []

    def work() -> None:
        try:
            found.extend(check())
        except DartsError as error:
            found.append(Finding(name, "fail", str(error)))
        except Exception as error:
            said = str(error).strip().partition("\n")[0]
            found.append(Finding(name, "fail", f"{type(error).__name__}: {said}", "This check itself has failed."))

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    late = [Finding(name, "fail", f"no answer in {_SECONDS:g} s", "See the network, and the service's own status.")]
    return [*found, *late] if thread.is_alive() else found
