"""A real STAC API on loopback: stac-fastapi on PgSTAC (item search, paging, CQL2 filters), with a database of its own.

The fixture `stac_api` starts both in about two seconds, once per test process, and is known to every test. Debian has
what it needs in `postgresql-15-postgis-3`; without that, tests that ask for it are skipped.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.postgres.cluster import Cluster

_USER = "stac"
_SECONDS = 30


@dataclass(frozen=True)
class StacApi:
    """A running API.

    Attributes:
        url: its landing page.
        dsn: how its database is reached.
    """

    url: str
    dsn: str

    def load(self, collection: str, items: Iterable[dict[str, Any]], **fields: Any) -> None:
        """Create a collection (or replace it, with all that it holds) and fill it.

        Args:
            collection: its id; the items get it too.
            items: STAC items as dictionaries; thousands take seconds.
            fields: of the collection, beside what every collection must have.
        """
        from pypgstac.db import PgstacDB
        from pypgstac.load import Loader, Methods

        made = {
            "type": "Collection", "stac_version": "1.1.0", "id": collection, "description": collection,
            "license": "other", "links": [],
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}, **fields,
        }  # fmt: skip
        with PgstacDB(dsn=self.dsn) as database:
            database.query_one("SELECT count(delete_collection(id)) FROM collections WHERE id = %s", [collection])
            loader = Loader(database)
            loader.load_collections(iter([made]), Methods.insert)
            loader.load_items(({**item, "collection": collection} for item in items), Methods.insert)


@pytest.fixture(scope="session")
def stac_api() -> Iterator[StacApi]:
    """An API without collections; `load` fills it."""
    pytest.importorskip("stac_fastapi.pgstac", reason="the test extra is not installed: no stac-fastapi-pgstac")
    with running() as api:
        yield api


@contextmanager
def running() -> Iterator[StacApi]:
    """The same, where there are no fixtures."""
    with ExitStack() as stack:
        dsn = stack.enter_context(_database())
        yield StacApi(stack.enter_context(_api(dsn)), dsn)


@contextmanager
def _database() -> Iterator[str]:
    """A PostgreSQL cluster with PgSTAC's schema, reached through a socket in a folder of its own."""
    import psycopg
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster.made(_USER, "postgresql-15-postgis-3"))
        log = cluster.folder / "log"
        settings = ("listen_addresses=", "fsync=off", "synchronous_commit=off", "full_page_writes=off")
        server = cluster.start(settings, stack.enter_context(log.open("w")))
        stack.callback(_stop, server)
        dsn = f"postgresql://{_USER}@/postgres?host={cluster.folder}"

        def connected() -> bool:
            with suppress(psycopg.OperationalError), psycopg.connect(dsn) as connection:
                known = connection.execute("SELECT count(*) FROM pg_available_extensions WHERE name = 'postgis'")
                if known.fetchone() == (0,):
                    pytest.skip("PostgreSQL without PostGIS on this machine (Debian: postgresql-15-postgis-3)")
                return True
            return False

        _wait(connected, server, log)
        with PgstacDB(dsn=dsn) as database:
            Migrate(database).run_migration()
        yield dsn


@contextmanager
def _api(dsn: str) -> Iterator[str]:
    """stac-fastapi in a process of its own, on a socket that is bound here: no other process can take its port."""
    folder = dsn.partition("?host=")[2]
    log = Path(folder) / "api.log"
    database = {"PGUSER": _USER, "PGPASSWORD": "", "PGHOST": folder.replace("/", "%2F"), "PGPORT": "5432"}
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        server = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", "stac_fastapi.pgstac.app:create_app",
             "--fd", str(listener.fileno()), "--log-level", "warning"],
            pass_fds=[listener.fileno()],
            env={**os.environ, **database, "PGDATABASE": "postgres"},
            stderr=stack.enter_context(log.open("w")),
        )  # fmt: skip
        stack.callback(_stop, server)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        def answers() -> bool:
            with suppress(OSError), urllib.request.urlopen(f"{url}_mgmt/ping", timeout=_SECONDS) as answer:
                return bool(answer.status == 200)
            return False

        _wait(answers, server, log)
        yield url


def _wait(ready: Callable[[], bool], server: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _SECONDS
    while not ready():
        if server.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{Path(str(server.args[0])).name} did not come up:\n{log.read_text()}")
        time.sleep(0.02)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(2)  # SIGINT: PostgreSQL then ends its clients' sessions at once
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
