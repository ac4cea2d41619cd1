"""Planet images as Planet delivers them: folders of GeoTIFFs, metadata and manifests, with known values.

The mask of an image has a stripe of columns for each of its classes, so that every class is somewhere.
"""

import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from rasterio.warp import transform_bounds

from darts_assets.scene import Scene
from darts_assets.sources import S3Options
from darts_assets.sources.planet import PLANET_SCENES, PlanetFolders

S3 = S3Options()
HARVEY = "data/planet_stactools/tests/data-files"
"""Real deliveries, below the shared data."""

SCENE = "20230817_191432_34_2442"
EARLIER = "20220704_201500_101c"
ORTHOTILE = "4500474_2133707_2021-05-20_2419"

STRIPES = ("clear", "snow", "shadow", "light haze", "heavy haze", "cloud", "no data", "none")
"""What the stripes of the mask are, from the left; `none` has no band set at all."""
_PLANES = (1, 2, 3, 4, 5, 6, 8)

FOUR = ("blue", "green", "red", "nir")
EIGHT = ("coastal", "blue", "green_i", "green", "yellow", "red", "rededge", "nir")
NUMBERS = {
    "blue": 600, "green": 800, "red": 1000, "nir": 2400, "coastal": 300, "green_i": 100, "yellow": 200, "rededge": 1500,
}  # fmt: skip
"""Digital number of each band in the first row; one more in each row below."""

WHERE = (620000.0, 7520000.0)
"""Top left corner in UTM zone 8 north: on the Peel Plateau."""

SR = {"SR": "3B_AnalyticMS_SR", "SR_clip": "3B_AnalyticMS_SR_clip"}


def digital_numbers(bands: Sequence[str], side: int) -> npt.NDArray[np.uint16]:
    """(bands, side, side); the first row is 0, as outside of an image."""
    rows = np.arange(side, dtype="uint16")[:, None]
    numbers = np.stack([np.broadcast_to(NUMBERS[band] + rows, (side, side)) for band in bands])
    numbers[:, 0, :] = 0
    return numbers


def stripes(side: int) -> npt.NDArray[np.intp]:
    """Number of the stripe of each column."""
    return np.arange(side) * len(STRIPES) // side


def usable_data_mask(side: int) -> npt.NDArray[np.uint8]:
    """(8, side, side), as `udm2` has it: seven flags, of which 8 has bits, and the confidence in band 7."""
    mask = np.zeros((8, side, side), "uint8")
    for stripe, plane in enumerate(_PLANES):
        mask[plane - 1, :, stripes(side) == stripe] = 4 if plane == 8 else 1
    mask[6] = 90
    return mask


def write_image(
    root: Path,
    image: str = SCENE,
    *,
    product: Literal["SR", "SR_clip"] = "SR",
    bands: Sequence[str] = FOUR,
    side: int = 64,
    described: bool = False,
    crs: str | None = "EPSG:32608",
    where: tuple[float, float] = WHERE,
    flat: bool = False,
    sun: bool = True,
    metadata: bool = True,
    udm2: bool = True,
    brighter: int = 0,
) -> Path:
    """Write an image; its folder is `ID` (orthotiles: `STRIP/ID`), or `root` itself where it is `flat`.

    `brighter` is added to its digital numbers: images with the same pixels cannot be in one training set.
    """
    parent = root / image.split("_")[0] if "-" in image else root
    folder = root if flat else parent / image
    folder.mkdir(parents=True, exist_ok=True)
    clip = "_clip" if product.endswith("clip") else ""
    eight = "_8b" if len(bands) == 8 else ""
    stem = f"{image}_BGRN" if "-" in image else f"{image}_3B_AnalyticMS"
    grid: dict[str, Any] = {
        "driver": "GTiff", "height": side, "width": side, "crs": crs, "compress": "lzw",
        "transform": Affine(3, 0, where[0], 0, -3, where[1]),
    }  # fmt: skip
    with rasterio.open(
        folder / f"{stem}_SR{eight}{clip}.tif", "w", count=len(bands), dtype="uint16", nodata=0, **grid
    ) as file:
        numbers = digital_numbers(bands, side)
        file.write(np.where(numbers == 0, 0, numbers + np.uint16(brighter)))
        for number, band in enumerate(bands, start=1):
            if described:
                file.set_band_description(number, band)
    if udm2:
        with rasterio.open(folder / f"{image}_3B_udm2{clip}.tif", "w", count=8, dtype="uint8", **grid) as file:
            file.write(usable_data_mask(side))
    if metadata:
        (folder / f"{image}_metadata.json").write_text(json.dumps(_metadata(image, side, where, sun)))
    return folder


def _metadata(image: str, side: int, where: tuple[float, float], sun: bool) -> dict[str, Any]:
    """As the Data API has it."""
    x, y = where
    west, south, east, north = transform_bounds("EPSG:32608", "EPSG:4326", x, y - 3 * side, x + 3 * side, y)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    day = image.split("_")[2] if "-" in image else f"{image[:4]}-{image[4:6]}-{image[6:8]}"
    angles = {"sun_azimuth": 171.3, "sun_elevation": 35.2} if sun else {}
    properties = {
        "acquired": f"{day}T20:14:32.340000Z", "cloud_cover": 0.25, "instrument": "PSB.SD", "pixel_resolution": 3,
        "item_type": "PSOrthoTile" if "-" in image else "PSScene", **angles,
    }  # fmt: skip
    return {
        "id": image, "type": "Feature", "properties": properties,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }  # fmt: skip


def write_manifest(folder: Path) -> Path:
    """`manifest.json` of all files below a folder, as Planet writes it last."""
    files = [
        {
            "path": str(path.relative_to(folder)), "media_type": "image/tiff", "size": path.stat().st_size,
            "digests": {
                "md5": hashlib.md5(path.read_bytes()).hexdigest(),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            },
            "annotations": {"planet/item_type": "PSScene"},
        }
        for path in sorted(folder.rglob("*")) if path.is_file()
    ]  # fmt: skip
    path = folder / "manifest.json"
    path.write_text(json.dumps({"name": "", "files": files}))
    return path


def rest(folder: Path, seconds: float = 3600) -> None:
    """Make all files below a folder as old as if nothing had been written for a while."""
    then = dt.datetime.now().timestamp() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def move_to_the_arctic(real: Path, root: Path) -> Path:
    """The real scene with its own pixels, mask and metadata, but at 3 m on the Peel Plateau instead of in Texas."""
    folder = root / real.name
    folder.mkdir(parents=True)
    for path in real.iterdir():
        shutil.copyfile(path, folder / path.name)
    for path in folder.glob("*Analytic*.tif"):
        with rasterio.open(path, "r+") as file:
            file.crs, file.transform = "EPSG:32608", Affine(3, 0, WHERE[0], 0, -3, WHERE[1])
    return folder


def find(*roots: Path, **wanted: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Items by their ids, and problems."""
    folders = PlanetFolders([str(root) for root in roots], S3)
    items = {item["id"]: item for item in folders.items(**wanted)}
    return items, folders.problems


def scene_of(root: Path) -> Scene:
    """The one scene in a folder, from an item that has been through JSON."""
    items, problems = find(root)
    assert problems == []
    (item,) = items.values()
    return PLANET_SCENES.parse(json.loads(json.dumps(item)))
