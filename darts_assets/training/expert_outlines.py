"""Outlines of one or several experts for scenes, and how far the experts agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from darts_assets.errors import TrainingError
from darts_assets.geo.vector_files import read_vector
from darts_assets.sources.stac.scene_ids import listed
from darts_assets.tiles import geobox_of, row_windows
from darts_assets.training.labels import CRS, IGNORED, SLUMP, classes_of, polygons_of
from darts_assets.training.patches import HIGH_QUALITY, Burner

EXPERT = "expert"
"""Column with the name of the expert who drew an outline."""

_SUFFIXES = (".gpkg", ".geojson", ".json", ".shp", ".fgb", ".parquet", ".zip")
_SCENE_COLUMNS = ("scene_id", "image_id")


@dataclass(frozen=True)
class ExpertOutlines:
    """Outlines of slumps.

    Attributes:
        outlines: one row per outline, EPSG:4326: `expert`, `label` (int64: 0 background, 1 slump, 2 ignored),
            `scene_id` ("": valid for all scenes), `geometry`.
        experts: names, sorted; an expert without outlines saw no slumps.
    """

    outlines: gpd.GeoDataFrame
    experts: tuple[str, ...]

    def of_scene(self, scene_id: str) -> gpd.GeoDataFrame:
        """The outlines that are valid for a scene."""
        return self.outlines[self.outlines["scene_id"].isin(["", scene_id])]


@dataclass(frozen=True)
class Agreement:
    """Pixels on which experts drew slumps.

    Attributes:
        experts: names.
        joint: number of pixels that each pair drew, those of each expert on the diagonal; int64 (experts, experts).
    """

    experts: tuple[str, ...]
    joint: npt.NDArray[np.int64]

    def pairs(self) -> pd.DataFrame:
        """One row per pair: `expert`, `other`, `iou` (NaN if neither drew a slump), `both`, `either` (pixels)."""
        rows = []
        for one, other in combinations(range(len(self.experts)), 2):
            both = int(self.joint[one, other])
            either = int(self.joint[one, one] + self.joint[other, other]) - both
            iou = both / either if either else float("nan")
            rows.append((self.experts[one], self.experts[other], iou, both, either))
        return pd.DataFrame(rows, columns=["expert", "other", "iou", "both", "either"])


def pairs_on(agreements: Sequence[Agreement]) -> pd.DataFrame:
    """The pairs of experts over several images, as `Agreement.pairs`; a pair counts on images that both labelled."""
    tables = [table for agreement in agreements if len(table := agreement.pairs())]
    if not tables:
        return Agreement((), np.zeros((0, 0), dtype=np.int64)).pairs()
    pairs = pd.concat(tables).groupby(["expert", "other"], as_index=False)[["both", "either"]].sum()
    pairs.insert(2, "iou", pairs["both"] / pairs["either"].where(pairs["either"] > 0))
    return pairs


def agreement_on(
    tile: xr.Dataset, labels: gpd.GeoDataFrame, footprint: gpd.GeoSeries | None, experts: Sequence[str]
) -> Agreement:
    """The agreement of experts on the pixels of high quality of a tile, window by window.

    Args:
        tile: see `cut`.
        labels: outlines with the column `expert`, in any CRS.
        footprint: labelled area in any CRS; None: the whole tile.
        experts: names of the experts.
    """
    burner = Burner(geobox_of(tile), labels, footprint, experts)
    joint = np.zeros((len(experts), len(experts)), dtype=np.int64)
    for rows in row_windows(tile.sizes["y"]):
        window = (rows, slice(0, tile.sizes["x"]))
        quality = np.asarray(tile["quality_data_mask"].isel(y=rows).values)
        drawn = np.stack([burner.classes(window, expert)[quality == HIGH_QUALITY] for expert in experts])
        counted = drawn[:, (drawn != IGNORED).all(axis=0)] == SLUMP
        joint += (counted.astype(np.float32) @ counted.T.astype(np.float32)).astype(np.int64)
    return Agreement(tuple(experts), joint)


def read_outlines(location: str | Path) -> ExpertOutlines:
    """Read the outlines of one or several experts.

    Args:
        location: a vector file, which may have the columns `expert`, `label` (0, 1 or 2) and `scene_id` (or
            `image_id`); or a folder with a file for each expert, also in folders of their own.

    Raises:
        TrainingError: if there are no files, or one cannot be read, has no CRS, or unknown classes.
    """
    root = Path(location).expanduser()
    if not root.is_dir():
        table = _read(root)
        names = table[EXPERT].fillna("").astype(str) if EXPERT in table else pd.Series("", index=table.index)
        outlines = _outlines(table, root).assign(expert=names.to_numpy())
        return ExpertOutlines(outlines, tuple(sorted(set(names))) or ("",))
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not files:
        raise TrainingError(f"{root}: expected a vector file for each expert, but there are none")
    experts = _names(root, files)
    tables = [_outlines(_read(path), path).assign(expert=name) for path, name in zip(files, experts, strict=True)]
    filled = [table for table in tables if len(table)] or tables[:1]
    outlines = gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), geometry="geometry", crs=CRS)
    return ExpertOutlines(outlines, tuple(sorted(experts)))


def read_area(location: str | Path) -> gpd.GeoSeries:
    """Polygons of the area in which all slumps were outlined.

    Raises:
        TrainingError: if the file cannot be read, has no CRS or no polygons.
    """
    shapes = polygons_of(_read(Path(location).expanduser()).geometry)
    shapes = shapes[shapes.geom_type.isin(["Polygon", "MultiPolygon"])]
    if shapes.empty:
        raise TrainingError(f"{location}: the labelled area has no polygons")
    return shapes


def _read(path: Path) -> gpd.GeoDataFrame:
    try:
        table = read_vector(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path}: cannot be read: {error}") from error
    if table.crs is None:
        raise TrainingError(f"{path}: no CRS")
    return table[~(table.geometry.isna() | table.geometry.is_empty)]


def _outlines(table: gpd.GeoDataFrame, path: Path) -> gpd.GeoDataFrame:
    column = next((name for name in _SCENE_COLUMNS if name in table), None)
    scenes = table[column].fillna("").astype(str).to_numpy() if column else ""
    classes = classes_of(table["label"], path).to_numpy() if "label" in table else SLUMP
    return gpd.GeoDataFrame(
        {"label": classes, "scene_id": scenes},
        index=range(len(table)), geometry=polygons_of(table.geometry).to_crs(CRS).to_numpy(), crs=CRS,
    ).astype({"label": "int64"})  # fmt: skip


def _names(root: Path, files: Sequence[Path]) -> list[str]:
    """The name of the expert of each file: that of the file, or of its folder if several files have the same name."""
    stems = [path.stem for path in files]
    if len(set(stems)) == len(stems):
        return stems
    folders = [str(path.parent.relative_to(root)) for path in files]
    if len(set(folders)) < len(folders):
        raise TrainingError(
            f"{root}: expected one file for each expert, but folders contain several: "
            f"{listed(sorted({name for name in folders if folders.count(name) > 1}))}"
        )
    return folders
