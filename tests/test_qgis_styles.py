"""Each product has a style, and QGIS (if it is installed) shows the product with it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image

from darts_assets.bands import OPTICAL, TCVIS, TERRAIN, band
from darts_assets.detection.export import RASTER_GROUPS, SINGLE_BANDS, bands_of, export
from darts_assets.inventory.inventory_store import write_followed
from darts_assets.inventory.sites import no_sites
from darts_assets.inventory.slumps import Followed
from darts_assets.qgis_styles import (
    COMPOSITES,
    RAMPS,
    categories,
    write_category_style,
    write_raster_style,
    write_vector_style,
)
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.tiles import on_grid

GRID = GeoBox((100, 100), Affine(10, 0, 500_000, 0, -10, 7_700_000), "EPSG:32608")
PIXEL, BACKGROUND = 4, "#3c5a78"
"""Side of a rendered pixel, and the color behind the layer."""

VALUES = {
    "red": 0.1, "green": 0.05, "blue": 0.2, "slope": 20, "relative_elevation": -5, "aspect": 90, "hillshade": 0.75,
    "ndvi": 0.5, "curvature": 0.5, "tc_brightness": 200, "tc_greenness": 100, "tc_wetness": 50, "s2_scl": 6,
    "quality_data_mask": 1, "planet_udm": 6, "arcticdem_data_mask": 1,
}  # fmt: skip
EXTENT, SLUMP = (10, 90), (40, 60)
"""First and last pixel of the valid area and of the slump, in rows and columns."""


def square(pixels: tuple[int, int]) -> shapely.Geometry:
    first, last = pixels
    left, top = GRID.affine @ (first, first)
    right, bottom = GRID.affine @ (last, last)
    return shapely.box(left, bottom, right, top)


def exported(folder: Path) -> None:
    """All products of a scene with one slump of 75 %."""
    probabilities = np.full(GRID.shape, 0.25, np.float32)
    probabilities[slice(*SLUMP), slice(*SLUMP)] = 0.75
    features = {name: np.full(GRID.shape, VALUES.get(name, 0.2), band(name).memory) for name in SINGLE_BANDS}
    for name in ("red", "green", "blue"):
        features[name][:5] = np.nan
    columns = {"mean": [0.75], "npixel": [400], "area_m2": [40_000.0], "clear_fraction": [1.0]}
    vectors = {
        name: gpd.GeoDataFrame(columns, geometry=[square(pixels)], crs="EPSG:32608")
        for name, pixels in (("segments", SLUMP), ("extent", EXTENT))
    }
    products = ["probabilities", "binarized", "polygonized", "extent", *RASTER_GROUPS, *SINGLE_BANDS]
    export(
        folder, products, probabilities=on_grid({"probabilities": probabilities}, GRID),
        features=on_grid(features, GRID), vectors=vectors, metadata={},
    )  # fmt: skip


def ramp_color(name: str, value: float) -> list[float]:
    ramp = RAMPS[name]
    stops = np.linspace(ramp.low, ramp.high, len(ramp.colors))
    channels = np.array([rgb(color) for color in ramp.colors]).T
    return [float(np.interp(value, stops, channel)) for channel in channels]


def rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def test_every_raster_has_a_style_of_its_kind(tmp_path: Path) -> None:
    kinds = {}
    for product in ("probabilities", "binarized", *RASTER_GROUPS, *SINGLE_BANDS):
        path = write_raster_style(tmp_path / f"{product}.tif", bands_of(product) or (product,))
        assert path == tmp_path / f"{product}.qml"
        renderer = ElementTree.parse(path).find("pipe/rasterrenderer")
        assert renderer is not None
        kinds[product] = renderer.get("type")
    paletted = {"binarized", "s2_scl", "planet_udm", "quality_data_mask", "arcticdem_data_mask"}
    assert {name for name, kind in kinds.items() if kind == "paletted"} == paletted
    assert {name for name, kind in kinds.items() if kind == "multibandcolor"} == {"optical", "tcvis"}
    assert {kinds[name] for name in ("probabilities", "dem", "ndvi", *OPTICAL, *TERRAIN, *TCVIS)} == {
        "singlebandpseudocolor"
    }


def test_an_ensembles_models_have_the_same_styles(tmp_path: Path) -> None:
    texts = [
        write_vector_style(tmp_path / f"{stem}.gpkg").read_text()
        for stem in ("prediction_segments", "prediction_segments-tcvis", "prediction_extent", "rts_slumps", "rts_2023")
    ]
    assert texts[0] == texts[1]
    assert texts[3] == texts[4]
    assert 'attr="mean"' in texts[0]
    assert len({texts[0], texts[2], texts[3]}) == 3


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, npt.NDArray[np.int16]]]:
    """File name -> type of its renderer in QGIS, and its picture (rows, columns, 3)."""
    probe = ["/usr/bin/python3", "-c", "import qgis.core"]
    if not Path(probe[0]).exists() or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("QGIS (Debian: qgis, python3-qgis) is not installed")
    folder = tmp_path_factory.mktemp("qgis")
    exported(folder)
    slumps = gpd.GeoDataFrame({"slump_id": ["a"]}, geometry=[square(SLUMP)], crs="EPSG:32608")
    place = Place(StoreLocation(str(folder / "store")))
    followed = Followed(no_sites(2023), slumps, slumps[["slump_id"]])
    version = next(iter(write_followed(place, followed, {}).contents.values()))
    for file in (place.location.path / version).glob("rts_slumps.*"):
        shutil.copy(file, folder)
    pictures = folder / "pictures"
    pictures.mkdir()
    extent = ",".join(str(float(side)) for side in GRID.boundingbox.bbox)
    files = sorted(str(path) for path in folder.iterdir() if path.suffix in (".tif", ".gpkg"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GDAL", "PROJ"))}
    script = Path(__file__).with_name("qgis_renderer.py")
    command = [probe[0], str(script), str(pictures), extent, str(100 * PIXEL), BACKGROUND, *files]
    headless = {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**environment, **headless})
    assert done.returncode == 0, done.stderr
    kinds = json.loads(done.stdout.splitlines()[-1])
    opened = {
        path.name.removesuffix(".png"): np.asarray(Image.open(path).convert("RGB")) for path in pictures.iterdir()
    }
    return kinds, {name: pixels.astype(np.int16) for name, pixels in opened.items()}


@pytest.mark.slow
def test_qgis_shows_each_product_by_its_style(
    rendered: tuple[dict[str, str], dict[str, npt.NDArray[np.int16]]],
) -> None:
    kinds, pictures = rendered
    background = rgb(BACKGROUND)

    def near(
        name: str, expected: list[float] | tuple[int, ...], row: float = 50.5, column: float = 50.5, atol: int = 3
    ) -> None:
        pixel = pictures[name][round(row * PIXEL), round(column * PIXEL)]
        np.testing.assert_allclose(pixel, expected, atol=atol, err_msg=f"{name} {kinds[name]}")

    assert kinds["prediction_segments.gpkg"] == "graduatedSymbol"
    # The extent is an outline: nothing inside or outside.
    near("prediction_extent.gpkg", background)
    near("prediction_extent.gpkg", background, 5.5, 5.5)
    near("prediction_extent.gpkg", (255, 165, 0), 50.5, 10, atol=60)  # antialiased
    assert (pictures["prediction_extent.gpkg"] != background).any(axis=-1).mean() < 0.05
    # Slumps are half transparent, with an outline.
    orange = (np.add(rgb("#fd8d3c"), background) / 2).tolist()
    near("prediction_segments.gpkg", orange)
    near("prediction_segments.gpkg", rgb("#7f0000"), 50.5, 40, atol=60)
    near("prediction_segments.gpkg", background, 30.5, 30.5)
    near("rts_slumps.gpkg", (np.add(rgb("#d7301f"), background) / 2).tolist())
    near("rts_slumps.gpkg", background, 30.5, 30.5)
    for row, probability in ((50.5, 75), (30.5, 25)):
        near("probabilities.tif", ramp_color("probabilities", probability), row, row)
    none, slump = (rgb(flag.color) for flag in categories("binarized"))
    near("binarized.tif", slump)
    near("binarized.tif", none, 30.5, 30.5)
    for name in ("probabilities.tif", "binarized.tif"):
        near(name, background, 5.5, 5.5)
    for bands, (_, high) in COMPOSITES.items():
        name = "tcvis.tif" if bands == TCVIS else "optical.tif"
        near(name, [VALUES[band] / high * 255 for band in bands])
    near("optical.tif", background, 2.5, 50.5)
    near("dem.tif", ramp_color("slope", 20))
    for name in SINGLE_BANDS:
        value = VALUES.get(name, 0.2)
        flags = {flag.value: rgb(flag.color) for flag in categories(name)}
        near(f"{name}.tif", flags[int(value)] if flags else ramp_color(name, value))


def test_a_style_with_a_colour_for_each_value(tmp_path: Path) -> None:
    style = write_category_style(tmp_path / "layer.gpkg", "outcome", {"hit": "#2e8b57", "false_alarm": "#d7301f"})
    assert style.name == "layer.qml"
    renderer = ElementTree.parse(style).getroot().find("renderer-v2")
    assert renderer is not None
    assert (renderer.get("type"), renderer.get("attr")) == ("categorizedSymbol", "outcome")
    categories = [(each.get("value"), each.get("label"), each.get("symbol")) for each in renderer.iter("category")]
    assert categories == [("hit", "hit", "0"), ("false_alarm", "false alarm", "1")]
    fills = {
        symbol.get("name"): option.get("value")
        for symbol in renderer.iter("symbol")
        for option in symbol.iter("Option")
        if option.get("name") == "color"
    }
    assert fills == {"0": "46,139,87,128", "1": "215,48,31,128"}
