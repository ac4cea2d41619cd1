"""A PostgreSQL of the tests' own, on loopback."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def postgres(log_folder: Path, port: int, *, user: str, database: str) -> Iterator[None]:
    """A server on 127.0.0.1 that takes any password of `user`; the test is skipped where there is no PostgreSQL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = str(found[-1]) if found else shutil.which("initdb")
    if initdb is None:
        pytest.skip("no PostgreSQL on this machine (Debian: postgresql)")
    programs = Path(initdb).parent
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))  # a socket's path must be short: not below pytest's folder
    account = _account(folder)
    make = [initdb, "-D", str(folder / "data"), "-U", user, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"]
    try:
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=folder, **account)
        start = [str(programs / "postgres"), "-D", str(folder / "data"), "-k", str(folder), "-p", str(port)]
        start += [part for setting in ("listen_addresses=127.0.0.1", "fsync=off") for part in ("-c", setting)]
        with (log_folder / "postgres.log").open("w") as log:
            server = subprocess.Popen(start, stderr=log, cwd=folder, **account)
        try:
            reached = ["-h", "127.0.0.1", "-p", str(port), "-U", user]
            until = time.monotonic() + 30
            while subprocess.run([str(programs / "pg_isready"), *reached], stdout=subprocess.DEVNULL).returncode:
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"PostgreSQL did not come up:\n{(log_folder / 'postgres.log').read_text()}")
                time.sleep(0.05)
            subprocess.run([str(programs / "createdb"), *reached, database], check=True)
            yield
        finally:
            server.send_signal(2)  # SIGINT: PostgreSQL then ends its clients' sessions at once
            server.wait(10)
    finally:
        shutil.rmtree(folder)


def _account(folder: Path) -> dict[str, Any]:
    """PostgreSQL refuses to run as root: it then gets the folder and an account without rights."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    account = names.get("postgres") or names["nobody"]
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
