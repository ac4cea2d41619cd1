"""Kills of writers that publish, replace and collect: whatever is published or mentioned stays complete.

    python -m tests.benchmarks.kill_writers --kills 200 --on path s3

Each kill hits four writers, each with its own store (on moto: bucket). Raises AssertionError at the first version that
is not complete.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from darts_assets.stores.location import StoreLocation
from tests.servers.s3.moto_server import CREDENTIALS, S3Server
from tests.stores.killed_writer import kill_writers

WRITERS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--on", nargs="+", choices=["path", "s3"], default=["path", "s3"])
    options = parser.parse_args()
    os.environ.update(CREDENTIALS)
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.on:
            server = S3Server(Path(folder)) if kind == "s3" else None
            roots = [
                server.location("root") if server else StoreLocation(f"{folder}/store-{number}")
                for number in range(WRITERS)
            ]
            began = time.monotonic()
            seen = kill_writers(roots, options.kills, longest=1.0)
            seconds = time.monotonic() - began
            if server:
                server.stop()
            print(
                f"{kind}: {options.kills} kills of {WRITERS} writers in {seconds:.0f} s; {seen} versions, all complete"
            )


if __name__ == "__main__":
    main()
