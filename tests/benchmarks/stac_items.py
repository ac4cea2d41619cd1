"""Updates of the STAC tree with thousands of scenes: seconds, memory and bytes.

Usage: python -m tests.benchmarks.stac_items [--scenes 10000]

The scenes are copies of one with small products; only their manifests are written, which is all that the catalog reads.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from darts_assets.catalog import items_table
from darts_assets.catalog.stac_tree import update_stac
from darts_assets.stores.location import StoreLocation
from tests.catalog.conftest import publish


def published(root: StoreLocation, first: int, stop: int) -> None:
    """Publish manifests of scenes, as copies of `scene-a`."""
    folder = root.path / "products" / "sentinel2"
    text = (folder / "scene-a" / "current.json").read_text()
    for number in range(first, stop):
        name = f"S2A_MSIL2A_20230715T{number:06d}_T08WMB"
        pointer = json.loads(text.replace("scene-a", name))
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "current.json").write_text(json.dumps(pointer))


def timed(what: str, work: Callable[[], object]) -> None:
    start = time.perf_counter()
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {time.perf_counter() - start:.1f} s, peak of the process {peak:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=10_000)
    count = parser.parse_args().scenes
    with tempfile.TemporaryDirectory() as folder:
        root = StoreLocation(folder)
        publish(root, "scene-a", has_tiles=True)
        published(root, 1, count)

        def update() -> None:
            update_stac(root, ["sentinel2"], [], licence="CC-BY-4.0")

        def table_only() -> None:
            collection = json.loads((stac / "collection.json").read_text())
            tree = items_table.Tree(root.child("catalog"))
            (stac / "items.parquet").unlink()
            entries = [link for link in collection["links"] if link["rel"] == "item"]
            items_table.update_items_table(tree, "stac/sentinel2", collection, entries)

        timed(f"{count} new items", update)
        stac = Path(folder) / "catalog" / "stac" / "sentinel2"
        for name in ("collection.json", "items.parquet"):
            print(f"{name}: {(stac / name).stat().st_size / 1e6:.2f} MB")
        print(f"items: {sum(path.stat().st_size for path in stac.rglob('*/*.json')) / 1e6:.1f} MB")
        timed("nothing new", update)
        published(root, count, count + 1)
        timed("one more scene", update)
        timed("the table alone, of all items", table_only)


if __name__ == "__main__":
    main()
