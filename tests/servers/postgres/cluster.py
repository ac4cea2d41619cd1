"""Temporary PostgreSQL servers on loopback."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import yaml

if TYPE_CHECKING:
    import dagster as dg


FAST_DISKS = "-c random_page_cost=1.1"
"""As in `k8s/base/dagster.yaml`."""


@dataclass(frozen=True)
class Cluster:
    """A new database cluster, of no running server.

    Attributes:
        folder: for its socket; the cluster is in `data` below.
        programs: where those of PostgreSQL are.
        account: under which its server must run, as arguments of `subprocess`.
    """

    folder: Path
    programs: Path
    account: dict[str, Any]

    @classmethod
    @contextmanager
    def made(cls, user: str, package: str = "postgresql") -> "Iterator[Cluster]":
        """A cluster whose superuser is `user`; the test is skipped where Debian's package is not installed."""
        candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        initdb = str(candidates[-1]) if candidates else shutil.which("initdb")
        if initdb is None:
            pytest.skip(f"no PostgreSQL on this machine (Debian: {package})")
        folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # a socket's path must be short: not below pytest's folder
        account = _account(folder)
        make = [initdb, "-D", str(folder / "data"), "-U", user, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
        try:
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=folder, **account)
            yield cls(folder, Path(initdb).parent, account)
        finally:
            shutil.rmtree(folder)

    def start(self, settings: Sequence[str], log: IO[str]) -> "subprocess.Popen[bytes]":
        """A server, whose socket is in the folder; it may not answer yet."""
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        command += [part for setting in settings for part in ("-c", setting)]
        return subprocess.Popen(command, stderr=log, cwd=self.folder, **self.account)


@contextmanager
def postgres(log_folder: Path, port: int, *, user: str, database: str) -> Iterator[None]:
    """A server on 127.0.0.1 that takes any password of `user`; the test is skipped where there is no PostgreSQL."""
    log = log_folder / "postgres.log"
    with Cluster.made(user) as cluster, log.open("w") as written:
        server = cluster.start(["listen_addresses=127.0.0.1", f"port={port}", "fsync=off"], written)
        try:
            reached = ["-h", "127.0.0.1", "-p", str(port), "-U", user]
            until = time.monotonic() + 30
            ready = [str(cluster.programs / "pg_isready"), *reached]
            while subprocess.run(ready, stdout=subprocess.DEVNULL).returncode:
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"PostgreSQL did not come up:\n{log.read_text()}")
                time.sleep(0.05)
            subprocess.run([str(cluster.programs / "createdb"), *reached, database], check=True)
            yield
        finally:
            server.send_signal(2)  # SIGINT: PostgreSQL then ends its clients' sessions at once
            server.wait(10)


def _account(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: it then gets the folder and an account without rights."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = names.get("postgres") or names["nobody"]
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


@contextmanager
def postgres_instance(
    folder: Path, config: Mapping[str, Any] | None = None, options: str = ""
) -> "Iterator[dg.DagsterInstance]":
    """An empty Dagster instance in a database of its own; its home is `folder/home`.

    Args:
        folder: of all its files.
        config: more of `dagster.yaml`.
        options: of its connections to PostgreSQL, such as FAST_DISKS.
    """
    import dagster as dg

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "home").mkdir()
    url = {"postgres_url": f"postgresql+psycopg2://darts:x@127.0.0.1:{port}/darts?options={quote(options)}"}
    content = {"telemetry": {"enabled": False}, "storage": {"postgres": url}, **(config or {})}
    (folder / "home" / "dagster.yaml").write_text(yaml.safe_dump(content))
    with (
        postgres(folder, port, user="darts", database="darts"),
        dg.DagsterInstance.from_config(str(folder / "home")) as instance,
    ):
        yield instance
