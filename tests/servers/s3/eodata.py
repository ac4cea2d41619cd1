"""Scenes in the key layout of CDSE's bucket `eodata`: files on S3 and their STAC items."""

import hashlib
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

EPSG, LEFT, TOP = 32608, 500000, 7500000
SCENE = "S2A_MSIL2A_20230615T210021_N0509_R100_T08WNB_20230616T001122"
GRANULE = f"Sentinel-2/MSI/L2A/2023/06/15/{SCENE}.SAFE/GRANULE/L2A_T08WNB_A041700_20230615T210021/IMG_DATA"
MOSAIC = "Sentinel-2_mosaic_2024_Q3_08WNB_0_0"
MOSAIC_FOLDER = f"Global-Mosaics/Sentinel-2/S2MSI_L3__MCQ/2024/07/01/{MOSAIC}"


def raster(values: np.ndarray, resolution: float, driver: str, nodata: int | None = None, **grid: Any) -> bytes:
    """A lossless file with many internal tiles; the upper left corner is that of all scenes, or as in `grid`."""
    options: dict[str, Any] = {"blockxsize": 64, "blockysize": 64}
    if driver == "JP2OpenJPEG":
        options |= {"quality": 100, "reversible": True}
    elif driver == "COG":
        options = {"blocksize": 128, "compress": "deflate", "overviews": "none"}
    height, width = values.shape
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file.jp2" if driver == "JP2OpenJPEG" else "file.tif")
        with rasterio.open(
            path, "w", driver=driver, width=width, height=height, count=1, dtype=values.dtype, nodata=nodata,
            **{"crs": f"EPSG:{EPSG}", "transform": Affine(resolution, 0, LEFT, 0, -resolution, TOP), **grid}, **options,
        ) as file:  # fmt: skip
            file.write(values, 1)
        return path.read_bytes()


class Eodata:
    """A new bucket.

    Args:
        client: of boto3, for the service.

    Attributes:
        bucket: its name.
        keys: asset -> key, of all files that were put.
    """

    def __init__(self, client: Any) -> None:
        self.bucket = f"eodata-{uuid.uuid4().hex[:12]}"
        self.keys: dict[str, str] = {}
        self._client = client
        client.create_bucket(Bucket=self.bucket)

    def put(self, key: str, content: bytes) -> str:
        """Store a file; returns its href."""
        self._client.put_object(Bucket=self.bucket, Key=key, Body=content)
        return f"s3://{self.bucket}/{key}"

    def asset(self, name: str, content: bytes, ending: str = "jp2") -> dict[str, Any]:
        """Store a band such as `B02_10m`; returns the asset, as CDSE describes it."""
        resolution = int(name[-3:-1])
        side = 240 * 10 // resolution
        self.keys[name] = f"{GRANULE}/R{resolution}m/T08WNB_20230615T210021_{name}.{ending}"
        asset = {
            "href": self.put(self.keys[name], content),
            "file:size": len(content),
            "file:checksum": "1620" + hashlib.sha3_256(content).hexdigest(),
            "proj:code": f"EPSG:{EPSG}",
            "proj:shape": [side, side],
            "proj:transform": [resolution, 0, LEFT, 0, -resolution, TOP],
        }
        return asset if name == "SCL_20m" else {**asset, "raster:scale": 1e-4, "raster:offset": -0.1, "nodata": 0}


def scene_item(assets: dict[str, Any]) -> dict[str, Any]:
    """The item of a scene of 240 x 240 pixels of 10 m."""
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "collection": "sentinel-2-l2a",
        "id": SCENE,
        "geometry": None,
        "properties": {
            "datetime": "2023-06-15T21:00:21.024Z",
            "updated": "2023-06-16T03:00:00Z",
            "grid:code": "MGRS-08WNB",
            "processing:version": "05.09",
            "view:sun_azimuth": 170.5,
            "view:sun_elevation": 44.25,
        },
        "links": [],
        "assets": assets,
    }


def mosaic_item(files: dict[str, tuple[str, int]]) -> dict[str, Any]:
    """The item of a quarterly mosaic as CDSE has it; `files` are the hrefs and sizes of its assets."""
    assets: dict[str, Any] = {"userdata": {"href": f"s3://eodata/{MOSAIC_FOLDER}/userdata.json", "roles": ["metadata"]}}
    for key, (href, size) in files.items():
        counts = key == "observations"
        assets[key] = {
            "href": href,
            "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"],
            "data_type": "uint16" if counts else "int16",
            "nodata": 0 if counts else -32768,
            "gsd": 10,
            "proj:shape": [10008, 10008],
            # Reprojected corners, not the file's: no grid can be made of it.
            "proj:bbox": [LEFT - 20.4, TOP - 2412.9, LEFT + 2420.8, TOP + 83.8],
            "file:size": size,
        }
        if not counts:
            names = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
            assets[key]["bands"] = [{"name": key, "eo:common_name": names[key], "eo:center_wavelength": 0.5}]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "collection": "sentinel-2-global-mosaics",
        "id": MOSAIC,
        "geometry": None,
        "properties": {
            "datetime": "2024-07-01T00:00:00Z",
            "start_datetime": "2024-07-01T00:00:00Z",
            "end_datetime": "2024-09-30T23:59:59Z",
            "updated": "2024-10-20T10:42:38.572992Z",
            "product:type": "S2MSI_L3__MCQ",
            "grid:code": "MGRS-08WNB",
            "proj:code": f"EPSG:{EPSG}",
            "gsd": 10,
        },
        "links": [],
        "assets": assets,
    }
