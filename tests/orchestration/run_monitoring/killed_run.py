"""A run that claims a slot of a pool until its process is killed: `python -m ...killed_run JOB` with DAGSTER_HOME."""

import os
import sys
import time

import dagster as dg

from darts_assets.orchestration.core.executors import executor


@dg.op(pool="cdse")
def fetch(context: dg.OpExecutionContext) -> None:
    context.log.info("fetching")
    print("fetching", flush=True)
    while os.environ.get("FETCHES_WITHOUT_END"):
        time.sleep(0.05)


@dg.job(executor_def=executor("in_process"))
def ours() -> None:
    fetch()


@dg.job(executor_def=executor("multiprocess"))
def of_processes() -> None:
    fetch()


@dg.job(executor_def=dg.in_process_executor)
def without_owner() -> None:
    fetch()


if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(dg.reconstructable(globals()[sys.argv[1]]), instance)
