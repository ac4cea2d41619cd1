"""`munged`, `slurmctld` and `slurmd` on loopback, with everything that they write in one folder."""

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo")
_SECONDS = 60

_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
KillWait=5
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """The programs of a cluster that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


@contextmanager
def slurm_cluster() -> Iterator[dict[str, str]]:
    """A cluster whose node is idle; yields the environment of its commands. Its jobs end with it."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path must be short: not below pytest's folder
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o700, parents=True)
    (folder / "munge" / "key").touch(0o400)
    (folder / "munge" / "key").chmod(0o600)
    (folder / "munge" / "key").write_bytes(secrets.token_bytes(1024))
    config = folder / "slurm.conf"
    ports = {"controller_port": _free_port(), "node_port": _free_port()}
    config.write_text(_CONFIG.format(host=socket.gethostname(), user=getpass.getuser(), folder=folder, **ports))
    environment = os.environ | {"SLURM_CONF": str(config), "PATH": _path()}
    files = {name: folder / "munge" / name for name in ("key-file", "socket", "pid-file", "log-file", "seed-file")}
    files["key-file"] = folder / "munge" / "key"
    # By force: others can access the socket of a system's munged, and not the folders of a test.
    munge = ["munged", "-F", "--force", *(f"--{name}={path}" for name, path in files.items())]
    controller, node = ["slurmctld", "-D", "-f", str(config)], ["slurmd", "-D", "-N", "node1", "-f", str(config)]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for command in (munge, controller, node):
            log = stack.enter_context((folder / f"{command[0]}.log").open("w"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(_end, process)
            if command is munge:
                _wait_for((folder / "munge" / "socket").exists, folder)
        _wait_for(lambda: _node_is_idle(environment), folder)
        stack.callback(_cancel_jobs, environment)
        yield environment


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _cancel_jobs(environment: dict[str, str]) -> None:
    subprocess.run(["scancel", "--full", f"--user={getpass.getuser()}"], env=environment, capture_output=True)
    with suppress(TimeoutError):
        _wait_for(lambda: _node_is_idle(environment), Path(environment["SLURM_CONF"]).parent)


def _node_is_idle(environment: dict[str, str]) -> bool:
    shown = subprocess.run(["sinfo", "-h", "-o", "%t"], env=environment, capture_output=True, text=True)
    return shown.stdout.strip() == "idle"


def _wait_for(is_ready: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while not is_ready():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text(errors="replace")[-2000:] for path in folder.glob("*.log"))
            raise TimeoutError(f"SLURM has not started:\n{logs}")
        time.sleep(0.2)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin"
