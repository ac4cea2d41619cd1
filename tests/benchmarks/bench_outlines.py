"""Time of `detection.outlines` against `rasterio.features.shapes`, and equality of their polygons, on synthetic masks.

python tests/benchmarks/bench_outlines.py [--side 4096] [--side 10980]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import rasterio.features
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.detection.outlines import outlines
from darts_assets.detection.postprocess import find_objects

Mask = npt.NDArray[np.bool_]


def blobs(side: int, sigma: float, share: float) -> Mask:
    """Smoothed noise above a threshold: `share` of the pixels, in objects about `sigma` pixels wide."""
    noise = np.random.default_rng(side).standard_normal((side, side), dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigma)
    return smooth > np.quantile(smooth[::7, ::7], 1 - share)


def by_gdal(labels: npt.NDArray[np.int32], mask: Mask, geobox: GeoBox) -> npt.NDArray[np.object_]:
    """4-connected polygons of `rasterio.features.shapes`, grouped by label."""
    polygons: dict[int, list[shapely.Polygon]] = {}
    for shape, label in rasterio.features.shapes(labels, mask, connectivity=4, transform=geobox.affine):
        exterior, *holes = shape["coordinates"]
        polygons.setdefault(int(label), []).append(shapely.Polygon(exterior, holes))
    gathered = [polygons[label] for label in sorted(polygons)]
    return np.array([each[0] if len(each) == 1 else shapely.MultiPolygon(each) for each in gathered], dtype=object)


def timed(work: Callable[[], npt.NDArray[np.object_]], repeat: int) -> tuple[float, npt.NDArray[np.object_]]:
    best = np.inf
    for _ in range(repeat):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def cases(side: int) -> Iterator[tuple[str, Mask]]:
    yield "detections, 1 % of the pixels", blobs(side, sigma=8, share=0.01)
    yield "noisy detections, 1 %", blobs(side, sigma=2, share=0.01)
    yield "valid area under clouds, 70 %", blobs(side, sigma=40, share=0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, action="append")
    parser.add_argument("--repeat", type=int, default=2)
    arguments = parser.parse_args()
    for side in arguments.side or [4096, 10980]:
        geobox = GeoBox((side, side), Affine(10, 0, 500_000, 0, -10, 7_700_000), "EPSG:32608")
        for title, mask in cases(side):
            arrays = find_objects(mask).labels, mask, geobox
            ours, one = timed(partial(outlines, *arrays), arguments.repeat)
            theirs, other = timed(partial(by_gdal, *arrays), arguments.repeat)
            equal = len(one) == len(other) and bool((shapely.normalize(one) == shapely.normalize(other)).all())
            print(
                f"{side}: {title}: {len(one)} objects, {int(shapely.get_num_coordinates(one).sum())} points; outlines "
                f"{ours:.2f} s, rasterio {theirs:.2f} s, ratio {theirs / ours:.1f}; equal: {equal}, valid: "
                f"{bool(shapely.is_valid(one).all())} and {bool(shapely.is_valid(other).all())}",
                flush=True,
            )


if __name__ == "__main__":
    main()
