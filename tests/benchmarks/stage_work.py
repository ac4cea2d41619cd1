"""The stages of the chain as the assets run them, without Dagster around: stores in, domain calls, stores out.

Each stage has a twin that merely reads the stage's input and writes its output again: what no algorithm can save.
A process of its own runs some of them: `python stage_work.py FOLDER SIZE work|io|make STAGE...` prints a line of JSON
for each; `make` runs those that have not run. `memory` runs those that the peer has too, from memory to memory.
"""

import dataclasses
import importlib
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from darts_assets.bands import VISIBLE_NIR
from darts_assets.cubes import ArcticDemTiles, ChunkData, Cube, TcvisRasters, ensure
from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.demo.write_cog import write_cog
from darts_assets.detection import DEFAULT_PRODUCTS, PostprocessParameters
from darts_assets.detection.export import export
from darts_assets.detection.postprocess import postprocess
from darts_assets.detection.vectorize import extent_polygons, segments
from darts_assets.features import PreprocessParameters
from darts_assets.features.preprocess import preprocess
from darts_assets.model import SegmentParameters
from darts_assets.orchestration.core.partitions import SENTINEL2
from darts_assets.orchestration.core.scene_store import quality_bands
from darts_assets.orchestration.scene_chain.raw_scene import RawSceneConfig, keep_raw_scene
from darts_assets.stores.tiles import read_tile, write_tile
from darts_assets.stores.vectors import read_vectors, write_vectors
from darts_assets.tiles import geobox_of
from tests.benchmarks.measuring import cost_of, seconds_of
from tests.benchmarks.stage_site import Site, consume, write_again

FACTS: dict[str, Any] = {"provenance": {"data_version": "benchmark"}}


@dataclass(frozen=True)
class Stage:
    """A stage of the chain.

    Attributes:
        work: what its asset does.
        io: what reading its input and writing its output does, each as a call that can be timed; the first is called
            before the second.
        output: what it leaves in the store, to see whether it has run.
        imports: modules that the work would import: a process that maps many scenes has them.
    """

    work: Callable[[Site], Any]
    io: Callable[[Site], tuple[Callable[[], Any], Callable[[], Any]]]
    output: Callable[[Site], Path]
    imports: tuple[str, ...] = ()


def fetch_raw(site: Site) -> None:
    raw, models = site.resource("raw"), site.resource("models")
    config = RawSceneConfig(force=True)
    keep_raw_scene(SENTINEL2, site.scene, config, raw=raw, needed=models.bands, log=logging.info)


def fetch_raw_io(site: Site) -> tuple[Callable[[], Any], Callable[[], Any]]:
    names = [*VISIBLE_NIR, *quality_bands(site.scene)]
    source, options = SENTINEL2.load_source(), site.resource("raw").access.options_for(site.scene.source)

    def read() -> None:
        for _ in source.fetch(site.scene, names, options).windows:
            pass

    return read, write_again(site, read_tile(site.raw_place(), decode=False), encoded=True)


def fill_cubes(site: Site) -> None:
    for layer, cube, keys in site.chunks():
        site.resource("cubes").fill(layer, cube, keys, "benchmark")


def fill_cubes_io(site: Site) -> tuple[Callable[[], Any], Callable[[], Any]]:
    held: dict[Any, ChunkData] = {}
    readers: dict[str, Callable[..., ChunkData]] = {"arcticdem": ArcticDemTiles(str(site.world.arcticdem)).read_chunk}
    work = []
    for layer, cube, keys in site.chunks():
        if layer == "tcvis":
            readers[layer] = partial(TcvisRasters(site.world.tcvis).read_chunk, int(cube.spec.grid.prefix))
        fresh = Cube(site.resource("store").root.child("scratch", cube.spec.name), cube.spec)
        work.append((readers[layer], fresh, keys))

    def read() -> None:
        for reader, cube, keys in work:
            boxes = [cube.spec.grid.chunk_geobox(*cube.spec.grid.parse(key)) for key in keys]
            with ThreadPoolExecutor(4) as pool:
                held.update(zip(boxes, pool.map(reader, boxes), strict=True))

    def write() -> None:
        for _, cube, keys in work:
            shutil.rmtree(cube.location.path, ignore_errors=True)
            ensure(cube, keys, held.__getitem__, message="benchmark")

    return read, write


def preprocess_scene(site: Site) -> None:
    optical = site.optical()
    layers = site.layers(optical)
    parameters = PreprocessParameters(terrain=site.resource("models").terrain)
    stream = preprocess(optical, layers.get("arcticdem"), layers.get("tcvis"), parameters)
    write_tile(site.place("tiles", "preprocessed_tile"), stream, metadata=FACTS)


def preprocess_scene_io(site: Site) -> tuple[Callable[[], Any], Callable[[], Any]]:
    layers = site.layers(site.optical())
    raw = read_tile(site.raw_place(), decode=False)
    return lambda: [consume(data) for data in (raw, *layers.values())], write_again(
        site, site.read("preprocessed_tile")
    )


def segment_tile(site: Site) -> None:
    from darts_assets.model.segment import segment

    stream = segment(site.read("preprocessed_tile"), site.resource("models").headers, SegmentParameters())
    write_tile(site.place("tiles", "segmentation"), stream, metadata=FACTS)


def segment_tile_io(site: Site) -> tuple[Callable[[], Any], Callable[[], Any]]:
    bands = list(site.resource("models").bands)
    tile = site.read("preprocessed_tile")[bands]
    return lambda: consume(tile), write_again(site, site.read("segmentation"))


def find_polygons(site: Site) -> None:
    mask = site.read("preprocessed_tile")["quality_data_mask"]
    detections = postprocess(site.read("segmentation"), mask, PostprocessParameters())
    tables = {"segments": segments(detections), "extent": extent_polygons(detections)}
    write_vectors(site.place("vectors", "polygons"), tables, FACTS)


def find_polygons_io(site: Site) -> tuple[Callable[[], Any], Callable[[], Any]]:
    probabilities, mask = site.read("segmentation"), site.read("preprocessed_tile")[["quality_data_mask"]]
    tables = read_vectors(site.place("vectors", "polygons"))
    place = site.resource("store").place("scratch", "polygons")
    return lambda: [consume(probabilities), consume(mask)], lambda: write_vectors(place, tables, FACTS)


def make_products(site: Site) -> None:
    place = site.place("products", "products")
    with place.new_version() as version:
        version.location.path.mkdir(parents=True)
        written = _export(site, version.location.path, DEFAULT_PRODUCTS)
        names = [path.name for paths in written.values() for path in paths]
        place.publish(version, dict.fromkeys(names, version.id), FACTS)


def make_products_io(site: Site) -> tuple[Callable[[], Any], Callable[[], Any]]:
    tile = site.read("preprocessed_tile")[["red", "green", "blue"]]
    probabilities, vectors = site.read("segmentation"), site.place("vectors", "polygons")
    geobox = geobox_of(probabilities)
    contents = site.place("products", "products").require().contents.items()
    folder = site.place("products", "products").location.path
    rasters: dict[str, Any] = {}
    for name, version in contents:
        if name.endswith(".tif"):
            with rasterio.open(folder / version / name) as source:
                rasters[name] = source.read(1)
    scratch = site.scratch()

    def write() -> None:
        for name, values in rasters.items():
            write_cog(scratch / name, {name: values}, geobox, nodata=None)
        _export(site, scratch, ["polygonized", "extent"])

    return lambda: [consume(tile), consume(probabilities), read_vectors(vectors)], write


def _export(site: Site, folder: Path, products: Sequence[str]) -> dict[str, list[Path]]:
    return export(
        folder,
        products,
        probabilities=site.read("segmentation"),
        features=site.read("preprocessed_tile"),
        vectors=read_vectors(site.place("vectors", "polygons")),
        metadata={"tile_id": site.scene.id},
    )


STAGES: dict[str, Stage] = {
    "raw scene": Stage(fetch_raw, fetch_raw_io, lambda site: site.raw_place().location.path),
    "auxiliary": Stage(fill_cubes, fill_cubes_io, lambda site: site.folder / "store" / "aux"),
    "preprocess": Stage(
        preprocess_scene,
        preprocess_scene_io,
        lambda site: site.place("tiles", "preprocessed_tile").location.path,
    ),
    "segmentation": Stage(
        segment_tile,
        segment_tile_io,
        lambda site: site.place("tiles", "segmentation").location.path,
        imports=("darts_assets.model.segment",),
    ),
    "postprocess": Stage(find_polygons, find_polygons_io, lambda site: site.place("vectors", "polygons").location.path),
    "products": Stage(make_products, make_products_io, lambda site: site.place("products", "products").location.path),
}


def from_memory(site: Site) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The stages that the peer has too, with their input in memory and their output left there, as the peer's."""
    optical = site.optical().load()
    layers = {name: layer.load() for name, layer in site.layers(optical).items()}
    parameters = PreprocessParameters(terrain=site.resource("models").terrain)

    def features() -> None:
        for _ in preprocess(optical, layers["arcticdem"], layers["tcvis"], parameters).windows:
            pass

    yield "preprocess", features
    tile = site.read("preprocessed_tile")[["red", "green", "blue", "quality_data_mask"]].load()
    probabilities, tables = site.read("segmentation").load(), {}

    def polygons() -> None:
        detections = postprocess(probabilities, tile["quality_data_mask"], PostprocessParameters())
        tables.update(segments=segments(detections), extent=extent_polygons(detections))

    yield "postprocess", polygons
    facts = {"tile_id": site.scene.id}
    yield (
        "products",
        lambda: export(
            site.scratch(), DEFAULT_PRODUCTS, probabilities=probabilities, features=tile, vectors=tables, metadata=facts
        ),
    )


def report(stage: str, result: dict[str, Any]) -> None:
    print(json.dumps({"stage": stage, **result}), flush=True)


def main(folder: str, size: str, part: str, *names: str) -> None:
    site = Site(Path(folder), int(size))
    assert DEMO_CHECKPOINT.exists()
    for name, work in from_memory(site) if part == "memory" else ():
        report(name, dataclasses.asdict(cost_of(work)))
    for name in names:
        stage = STAGES[name]
        for module in stage.imports:
            importlib.import_module(module)
        if part == "make":
            if not stage.output(site).exists():
                stage.work(site)
            continue
        if part == "work":
            shutil.rmtree(stage.output(site), ignore_errors=True)
            result = dataclasses.asdict(cost_of(lambda stage=stage: stage.work(site)))
        else:
            read, write = stage.io(site)
            result = {"read_seconds": seconds_of(read), "write_seconds": seconds_of(write)}
        report(name, result)
    shutil.rmtree(site.folder / "scratch", ignore_errors=True)
    shutil.rmtree(site.folder / "store" / "scratch", ignore_errors=True)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main(*sys.argv[1:])
