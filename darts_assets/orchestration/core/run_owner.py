"""The process that executes a run, as tags of the run.

After a crash the tags show whether the process still exists. A process id alone does not: ids are used again, and a
database may be shared by hosts and containers, each with processes of its own.
"""

import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

HOST = "darts/host"
BOOT = "darts/boot"
PID = "darts/pid"
STARTED = "darts/process_start"

_NOT_IN_A_CONTAINER = "pid:[4026531836]"
"""The process namespace that Linux starts with (PROC_PID_INIT_INO)."""


def owner_tags() -> dict[str, str]:
    """Tags for a run that this process executes: host, boot, process id and start time of the process."""
    pid = os.getpid()
    return {HOST: _host(), BOOT: _boot(), PID: str(pid), STARTED: process_start(pid) or ""}


def owner_is_alive(tags: Mapping[str, str]) -> bool | None:
    """Whether the process exists that executes a run with these tags.

    Returns:
        None if that cannot be decided here: the run has no such tags, or its process belongs to another host or
        container.
    """
    if not tags.get(PID, "").isdecimal() or tags.get(HOST) != _host():
        return None
    recorded, own = tags.get(BOOT, ""), _boot()
    if recorded != own:
        on_this_host = recorded.endswith(_NOT_IN_A_CONTAINER) and own.endswith(_NOT_IN_A_CONTAINER)
        return False if on_this_host else None  # the host was started again; containers may share a host name
    return process_start(int(tags[PID])) == tags.get(STARTED) != ""


def process_start(pid: int) -> str | None:
    """When a process started, in a form that is equal for the same process; None if it has ended.

    On Linux: clock ticks since boot. A zombie has ended: it waits only for its parent.
    """
    if platform.system() == "Linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, started = fields[0], fields[19]
    else:
        shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True)
        state, _, started = shown.stdout.strip().partition(" ")
    return None if not started or state[0] in "ZX" else started.strip()


def process_age(pid: int) -> float | None:
    """Seconds since a process started; None if it has ended, and on other systems than Linux."""
    started = process_start(pid)
    if started is None or not started.isdecimal():
        return None
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(started) / os.sysconf("SC_CLK_TCK")


def in_container() -> bool:
    """Whether this process is in a container, with process ids of its own."""
    return bool(_boot()) and not _boot().endswith(_NOT_IN_A_CONTAINER)


@cache
def _host() -> str:
    """Host name, and a hash of the installation's id: hosts may have equal names."""
    try:
        installation = hashlib.sha256(Path("/etc/machine-id").read_bytes()).hexdigest()[:8]
    except OSError:
        installation = ""
    return f"{platform.node()} {installation}".strip()


@cache
def _boot() -> str:
    """The id of this boot and, on Linux, the process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
