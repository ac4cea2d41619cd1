"""The database of a Dagster instance, made ready by one process while others wait for it.

Dagster creates missing tables whenever an instance is opened. Processes that do so at once, such as webserver and
daemon of a new installation, run into each other's half-made tables, and one of them ends with an error.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from darts_assets.errors import DartsError
from darts_assets.orchestration.core.dagster_compat import postgres_url
from darts_assets.remote.retry import DATABASE, TransientError, with_retries

LOCK = 4_715_302_119
"""Key of the advisory lock, ours alone."""

LOCK_SECONDS = 1800
"""For how long a process waits for another one's migration."""


class InstanceDatabaseError(DartsError):
    """The database of the instance cannot be used."""


def prepare_instance(limits: Mapping[str, int], log: Callable[[str], None]) -> None:
    """Create or migrate the database of the instance in `DAGSTER_HOME`, and set the limits of pools.

    Any number of processes may call this at once: one of them works, the others wait for it. A repetition changes
    nothing. A lock of PostgreSQL's session is held meanwhile, so a killed process blocks nobody.

    Args:
        limits: pool -> steps at once.
        log: receives lines about the progress.

    Raises:
        InstanceDatabaseError: if PostgreSQL does not answer or refuses the account, or if another process holds the
            lock for longer than LOCK_SECONDS.
    """
    with _alone(postgres_url(), log), dg.DagsterInstance.get() as instance:
        instance.upgrade(log)
        for pool, limit in limits.items():
            instance.event_log_storage.set_concurrency_slots(pool, limit)
            log(f"pool {pool}: {limit} at once")


@contextmanager
def _alone(url: str | None, log: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock; of databases other than PostgreSQL, which one host uses, there is none."""
    if url is None:
        yield
        return
    import sqlalchemy as sa

    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True)
    where = f"{engine.url.host}:{engine.url.port}/{engine.url.database}"

    def connect() -> sa.Connection:
        try:
            return engine.connect()
        except sa.exc.OperationalError as error:
            reason = " ".join(str(error.orig).split())
            if "authentication failed" in reason or "does not exist" in reason:
                raise InstanceDatabaseError(f"PostgreSQL at {where}: {reason}") from None
            raise TransientError(reason) from None

    subject = f"PostgreSQL at {where} does not accept connections"
    with with_retries(connect, subject, policy=DATABASE, error=InstanceDatabaseError) as connection:
        if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(LOCK))):
            log("another process prepares the database; waiting for it")
            connection.execute(sa.text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
            try:
                connection.execute(sa.select(sa.func.pg_advisory_lock(LOCK)))
            except sa.exc.OperationalError:
                raise InstanceDatabaseError(
                    f"PostgreSQL at {where}: another process has prepared the database for over {LOCK_SECONDS} s"
                ) from None
        yield
