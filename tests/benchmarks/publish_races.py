"""Real writers of one place: races of two of them, and kills, on a path and on moto behind a faulty network.

    python -m tests.benchmarks.publish_races --races 2000 --kills 1000 --on path s3

Prints how many ended with nothing readable, or with something else than the last success; must be 0.
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import obstore

from darts_assets.errors import StoreError
from darts_assets.remote import retry
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from tests.servers.s3.fault_proxy import Fault, fault_proxy
from tests.servers.s3.moto_server import CREDENTIALS, S3Server

MILLISECONDS = 0.004


def write(location: StoreLocation, text: str) -> str:
    """Publish a text; returns the outcome."""
    place = Place(location)
    try:
        with place.new_version() as version:
            obstore.put(version.location.objects(), "data", text.encode())
            place.publish(version, {"data": version.id}, {"text": text})
    except StoreError as error:
        return str(error).rpartition(": ")[2]
    return "success"


def write_forever(location: StoreLocation, started: "multiprocessing.synchronize.Event") -> None:
    retry.BACKOFF = (0.01, 0.05)
    write(location, f"{os.getpid()}")
    started.set()
    for number in range(1000):
        write(location, f"{os.getpid()}-{number}")


def read(location: StoreLocation) -> str | None:
    """The published text, None if nothing is; raises if it is not complete."""
    manifest = Place(location).manifest()
    if manifest is None:
        return None
    version = location.child(manifest.contents["data"])
    text = bytes(obstore.get(version.objects(), "data").bytes()).decode()
    assert text == manifest.metadata["text"]
    return text


def race(location: StoreLocation, dice: random.Random) -> Counter[str]:
    """Two writers that start within 4 ms of each other, over a first version."""
    write(location, "first")
    outcomes: dict[str, str] = {}

    def run(name: str, after: float) -> None:
        time.sleep(after)
        outcomes[name] = write(location, name)

    writers = [threading.Thread(target=run, args=(name, dice.uniform(0, MILLISECONDS))) for name in ("A", "B")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    text = read(location)
    successes = [name for name, outcome in outcomes.items() if outcome == "success"]
    lost = text is None or (bool(successes) and text == "first")
    return Counter({"lost": lost, "one success": len(successes) == 1, "two successes": len(successes) == 2,
                    "no success": not successes})  # fmt: skip


def kill(location: StoreLocation, direct: StoreLocation, dice: random.Random) -> Counter[str]:
    """A process that publishes without end, killed at a random moment; then another writer."""
    before = read(direct)
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.benchmarks.publish_races"])
    started = processes.Event()
    writer = processes.Process(target=write_forever, args=(location, started))
    writer.start()
    started.wait()
    time.sleep(dice.uniform(0, 0.2))
    writer.kill()
    writer.join()
    after = read(direct)
    counts = Counter({"lost": after is None and before is not None, "published something": after != before})
    if dice.random() < 0.1:
        counts["writer after it failed"] += write(direct, "repair") != "success"
    return counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--races", type=int, default=200)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--on", nargs="+", choices=["path", "s3"], default=["path", "s3"])
    arguments = parser.parse_args()
    os.environ.update(CREDENTIALS)
    retry.BACKOFF = (0.01, 0.05)
    dice = random.Random(1)
    for kind in arguments.on:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            direct = faulty = StoreLocation(str(folder))
            if kind == "s3":
                server = S3Server(folder)
                stack.callback(server.stop)
                proxy = stack.enter_context(fault_proxy(server.endpoint))
                direct = server.location("store")
                faulty = proxy.before(direct)
                everything = {"times": 1 << 60, "path": r"current\.json"}
                proxy.faults = [
                    *(Fault(fault, "PUT", share=0.02, **everything) for fault in ("lost", "500", "503", "reset")),
                    Fault("late", "PUT", share=0.05, seconds=0.05, **everything),
                    *(Fault(fault, "GET", share=0.02, **everything) for fault in ("truncated", "reset", "503")),
                ]
            for name, number in (("races", arguments.races), ("kills", arguments.kills)):
                counts, began = Counter[str](), time.monotonic()
                for n in range(number):
                    at = faulty.child("place" if name == "kills" else f"race-{n}")
                    counts += (race(at, dice) if name == "races" else kill(at, direct.child("place"), dice)) + Counter(
                        {"lost": 0}
                    )
                print(f"{kind}: {number} {name}, lost {counts['lost']}, {dict(counts)}, "
                      f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
                if kind == "s3":
                    print(f"faults so far: {dict(Counter(proxy.happened))}", flush=True)


if __name__ == "__main__":
    main()
