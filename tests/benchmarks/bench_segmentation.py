"""Segmentation against the plain loop: fp32 (PyTorch's default), patch by patch, the same patches, the same model.

Run: `pytest -n 0 -s tests/benchmarks/bench_segmentation.py`. unet++ on a resnet34 with random weights, 13 bands,
patches of 1024. Two to four minutes and 4 GB on two cores without a GPU. With a GPU it runs on that, on a larger tile,
and also tells scenes per hour and how busy the GPU was; bf16 is asked for there, because random weights do not bear it
and `auto` would choose fp32.
"""

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask.array as da
import numpy as np
import segmentation_models_pytorch as smp
import torch
import xarray as xr
from odc.geo.geobox import GeoBox

from darts_assets.bands import FEATURES, band
from darts_assets.model import CheckpointHeader, SegmentParameters
from darts_assets.model.networks import load_model, save_checkpoint
from darts_assets.model.patch_grid import PatchAxis
from darts_assets.model.segment import segment
from darts_assets.tiles import WINDOW_ROWS, on_grid

ON_GPU = torch.cuda.is_available()
SIDE = 10980 if ON_GPU else 2048
PARAMETERS = SegmentParameters(device="cuda" if ON_GPU else "cpu", precision="bf16" if ON_GPU else "fp32")
ARCHITECTURE = {"arch": "unetplusplus", "encoder_name": "resnet34", "in_channels": len(FEATURES), "classes": 1}


def features(side: int) -> xr.Dataset:
    """Noise of a few pixels in each band, made when it is read, in chunks as tiles have them."""

    def chunk(name: str, block_info: dict) -> np.ndarray:
        (top, bottom), (left, right) = block_info[None]["array-location"]
        random = np.random.default_rng([top, left, FEATURES.index(name)])
        low, high = band(name).valid
        coarse = random.uniform(low, high, ((bottom - top) // 4 + 1, (right - left) // 4 + 1)).astype("float32")
        return coarse.repeat(4, 0).repeat(4, 1)[: bottom - top, : right - left]

    sizes = da.core.normalize_chunks(WINDOW_ROWS, (side, side))
    bands = {
        name: da.map_blocks(chunk, name, chunks=sizes, dtype="float32", meta=np.empty((0, 0), "float32"))
        for name in FEATURES
    }
    return on_grid(bands, GeoBox.from_bbox((0, 0, side * 10, side * 10), "EPSG:32608", resolution=10))


def plain_loop(tile: xr.Dataset, header: CheckpointHeader, most: int) -> tuple[int, float]:
    """Patches and seconds of the loop over all patches, or over the first `most`; they are cut beforehand."""
    device = torch.device(PARAMETERS.device)
    model = load_model(header).to(device)
    axis = PatchAxis(tile.sizes["y"], PARAMETERS.padding, PARAMETERS.patch_size, PARAMETERS.overlap)
    corners = [(y, x) for y in axis.starts for x in axis.starts][:most]
    patches = []
    for y, x in corners:
        rows, columns = (axis.source(start, start + axis.patch) for start in (y, x))
        cut = tile.isel(y=rows, x=columns)
        patches.append(np.stack([band(name).to_model(cut[name].values) for name in FEATURES])[None])
    with torch.inference_mode():
        torch.sigmoid(model(torch.from_numpy(patches[0]).to(device))).cpu()
        started = time.perf_counter()
        for patch in patches:
            torch.sigmoid(model(torch.from_numpy(patch).to(device))).cpu()
        return len(patches), time.perf_counter() - started


def ours(tile: xr.Dataset, header: CheckpointHeader) -> float:
    """Seconds for the tile, reading and blending included."""
    warm = tile.isel(y=slice(0, 1024), x=slice(0, 1024))
    segment(warm, [header], PARAMETERS).collect()
    started = time.perf_counter()
    for _ in segment(tile, [header], PARAMETERS).windows:
        pass
    return time.perf_counter() - started


@contextmanager
def watched_gpu() -> Iterator[list[float]]:
    """How busy the GPU is, percent, sampled five times a second; nothing without a GPU."""
    samples: list[float] = []
    if shutil.which("nvidia-smi") is None:
        yield samples
        return
    command = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = process.stdout
        thread = threading.Thread(target=lambda: samples.extend(float(line) for line in lines))
        thread.start()
        yield samples
        process.terminate()
        thread.join()


def test_against_the_plain_loop(tmp_path: Path, machine: str) -> None:
    torch.manual_seed(0)
    model = smp.create_model(**ARCHITECTURE, encoder_weights=None).eval()
    header = save_checkpoint(tmp_path / "random.ckpt", model, ARCHITECTURE, FEATURES, "darts-2025")
    tile = features(SIDE) if ON_GPU else features(SIDE).load()
    axis = PatchAxis(SIDE, PARAMETERS.padding, PARAMETERS.patch_size, PARAMETERS.overlap)
    total = len(axis.starts) ** 2
    count, seconds = plain_loop(tile, header, most=30)
    plain = count / seconds
    with watched_gpu() as busy:
        took = ours(tile, header)
    ratio = total / took / plain
    scene = 14**2  # patches of a whole scene, 10980 x 10980
    print(
        f"\n{machine}; {PARAMETERS.device}, {PARAMETERS.precision}; {SIDE} x {SIDE}, {total} patches\n"
        f"plain fp32 loop {1 / plain:.2f} s a patch ({count} patches)   ours {took / total:.2f} s   ratio {ratio:.2f}\n"
        f"scenes per hour: plain {3600 * plain / scene:.2f}   ours {3600 * total / took / scene:.2f}"
    )
    if ON_GPU:
        print(f"GPU busy {np.mean(busy):.0f} %")
    assert ratio >= 1.3
