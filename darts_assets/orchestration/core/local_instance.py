"""Dagster instances on one machine, as our commands create them."""

import os
from pathlib import Path

from darts_assets.host_resources import memory_limit

_CONFIG = """\
telemetry: {{enabled: false}}
nux: {{enabled: false}}
concurrency:
  runs:
    max_concurrent_runs: {runs} # of the daemon; a full scene takes up to 4 GiB
run_monitoring: # by the daemon (`dagster dev`)
  enabled: true # ends runs that do not start, or do not end when they are canceled, within three minutes
  free_slots_after_run_end_seconds: 60 # slots of pools that an ended run still claims
python_logs:
  python_log_level: INFO # of what commands print; the event log has all events
"""
_SCENE = 5 * 2**30
"""Bytes of memory for a chain: measured were 3.9 GiB for a full scene."""


def own_home() -> Path | None:
    """The folder of `DAGSTER_HOME`, where a missing or empty folder becomes an instance; None if it is not set."""
    if not (configured := os.environ.get("DAGSTER_HOME")):
        return None
    home = Path(configured)
    if not home.exists() or not any(home.iterdir()):
        create_local_instance(home)
    return home


def create_local_instance(home: Path) -> None:
    """Make a folder for `DAGSTER_HOME` with a configuration; an existing configuration is kept.

    The daemon executes as many runs at once as full scenes fit into the memory of the machine.

    Args:
        home: the folder.
    """
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    if not config.exists():
        config.write_text(_CONFIG.format(runs=max(1, memory_limit() // _SCENE)))
