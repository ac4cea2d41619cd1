import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

EPSG = 32608
LEFT, TOP, ROWS = 500000, 7500000, 240
BANDS_10M = {"blue": "B02_10m", "green": "B03_10m", "red": "B04_10m", "nir": "B08_10m"}
COARSER = {"rededge071": ("B05_20m", 20), "nir09": ("B09_60m", 60), "s2_scl": ("SCL_20m", 20)}


def write_raster(path: Path, values: np.ndarray, resolution: int, *, epsg: int = EPSG, **profile: Any) -> None:
    """A tiled GeoTIFF of values (bands, y, x) or (y, x) whose upper left corner is that of the scene."""
    values = values[np.newaxis] if values.ndim == 2 else values
    options = {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", **profile}
    transform = Affine(resolution, 0, LEFT, 0, -resolution, TOP)
    count, height, width = values.shape
    with rasterio.open(
        path, "w", width=width, height=height, count=count, dtype=values.dtype,
        crs=f"EPSG:{epsg}", transform=transform, **options,
    ) as file:  # fmt: skip
        file.write(values)


@pytest.fixture
def raster_writer() -> Callable[..., None]:
    return write_raster


@dataclass
class MadeScene:
    """A small scene in the CDSE layout, on disk."""

    folder: Path
    item: dict[str, Any]
    values: dict[str, np.ndarray] = field(default_factory=dict)

    def path(self, asset: str) -> Path:
        return self.folder / f"{asset}.tif"

    def write_item(self) -> Path:
        path = self.folder / "item.json"
        path.write_text(json.dumps(self.item))
        return path


@pytest.fixture
def made(tmp_path: Path) -> MadeScene:
    random = np.random.default_rng(7)
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "S2A_MSIL2A_20230615T210021_N0509_R100_T08WNB_20230616T001122",
        "geometry": None,
        "properties": {
            "datetime": "2023-06-15T21:00:21.024Z",
            "grid:code": "MGRS-08WNB",
            "processing:version": "05.09",
            "view:sun_azimuth": 170.5,
            "view:sun_elevation": 44.25,
            "eo:cloud_cover": 3.5,
        },
        "links": [],
        "assets": {},
    }
    scene = MadeScene(tmp_path, item)
    for name, (asset, resolution) in {**{k: (v, 10) for k, v in BANDS_10M.items()}, **COARSER}.items():
        side = ROWS * 10 // resolution
        if name == "s2_scl":
            values = random.integers(1, 12, (side, side)).astype(np.uint8)
        else:
            values = random.integers(1, 12000, (side, side)).astype(np.uint16)
        scene.values[name] = values
        write_raster(scene.path(asset), values, resolution)
        item["assets"][asset] = {
            "href": f"./{asset}.tif",
            "proj:code": f"EPSG:{EPSG}",
            "proj:shape": [side, side],
            "proj:transform": [resolution, 0, LEFT, 0, -resolution, TOP],
            "file:size": scene.path(asset).stat().st_size,
        }
        if name != "s2_scl":
            item["assets"][asset] |= {"raster:scale": 0.0001, "raster:offset": -0.1, "nodata": 0}
    return scene


@pytest.fixture
def made_grid() -> GeoBox:
    return GeoBox((ROWS, ROWS), Affine(10, 0, LEFT, 0, -10, TOP), f"EPSG:{EPSG}")


@pytest.fixture
def real_item(shared: Path) -> dict[str, Any]:
    """The real Earth Search item of rio_tiler_pds, its hrefs those of the local (10x downsampled) files."""
    (path,) = (shared / "data" / "rio_tiler_pds").rglob("S2A_29RKH_20200219_0_L2A.json")
    item = json.loads(path.read_text())
    files = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "scl": "SCL"}
    item["assets"] = {
        key: {**item["assets"][key], "href": str(path.with_name(f"{name}.tif"))} for key, name in files.items()
    }
    return item


@pytest.fixture
def real_jp2(shared: Path) -> Path:
    (path,) = (shared / "data" / "eodag_products").rglob("*_B01.jp2")
    return path


@dataclass
class WebServer:
    """A file server on loopback that knows ranges, and fails as it is told.

    Attributes:
        url: where the files are.
        failures: how often the next requests whose path contains the key are answered with the status.
        requests: method and path of each request so far.
    """

    url: str
    failures: dict[str, tuple[int, int]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    state = WebServer("")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            state.requests.append(f"{self.command} {self.path}")
            for part, (status, times) in state.failures.items():
                if part in self.path and times > 0:
                    state.failures[part] = status, times - 1
                    return self.reply(status, b"", with_body=with_body)
            file = tmp_path / self.path.partition("?")[0].lstrip("/")
            if not file.is_file():
                return self.reply(404, b"", with_body=with_body)
            content = file.read_bytes()
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted is None:
                return self.reply(200, content, with_body=with_body)
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            part_range = f"bytes {first}-{last}/{len(content)}"
            return self.reply(206, content[first : last + 1], with_body=with_body, content_range=part_range)

        def reply(self, status: int, content: bytes, *, with_body: bool, content_range: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
