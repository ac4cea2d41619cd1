"""Archives of labels: outlines of slumps, and the footprints of the images that they were drawn on.

A folder is an iteration of labelling: `TrainingLabel*.gpkg` are its outlines, `ImageFootprints*.gpkg` its footprints.
Outlines and footprints belong together by `image_id`. Those of outlines have been damaged in an iteration of the real
archive (their last character is lost), and a join that says nothing would turn its slumps into background.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import pandas as pd
import shapely
from pyogrio.errors import DataSourceError

from darts_assets.errors import TrainingError
from darts_assets.sources.stac.scene_ids import listed

CRS = "EPSG:4326"

BACKGROUND, SLUMP, IGNORED = 0, 1, 2
"""Classes of labels, in archives (`label`) as in sets (`y`)."""

_ITERATION = re.compile(r"iteration\d+", re.IGNORECASE)
_LABELS, _FOOTPRINTS = "TrainingLabel", "ImageFootprints"


@dataclass(frozen=True)
class Iteration:
    """What one folder of an archive holds, and what of it cannot be used.

    Attributes:
        name: such as `iteration005`; the folder's own name where it has no number.
        labels: how many outlines.
        footprints: how many footprints.
        repaired: outlines and footprints whose geometry was invalid.
        unjoined: image ids of outlines that no footprint has -> how many outlines. These are in no set.
        doubtful: images without outlines on whose footprints such outlines lie. They are in no set either: what is
            slumps there would be background.
        joined_by_prefix: ids of outlines that were taken for the one footprint whose id begins so -> that id.
    """

    name: str
    labels: int
    footprints: int
    repaired: int
    unjoined: dict[str, int]
    doubtful: tuple[str, ...]
    joined_by_prefix: dict[str, str]

    def __str__(self) -> str:
        said = f"{self.name}: {self.labels} outlines, {self.footprints} footprints"
        if self.unjoined:
            lost = sum(self.unjoined.values())
            why = "" if self.footprints else " (it has no footprints)"
            said += f"; {lost} outlines of {len(self.unjoined)} images join no footprint{why} and are left out: "
            said += listed(list(self.unjoined))
        if self.doubtful:
            said += f"; so are {len(self.doubtful)} images without outlines on which these lie: {listed(self.doubtful)}"
        if self.joined_by_prefix:
            said += f"; the ids of {len(self.joined_by_prefix)} images were completed: {_pairs(self.joined_by_prefix)}"
        return said


@dataclass(frozen=True)
class LabelArchive:
    """Outlines and footprints that belong together; EPSG:4326.

    Attributes:
        labels: a row an outline: `image_id`, `label` (int64: 0 background, 1 slump, 2 ignored), `iteration`, `region`
            (the archive's own, "" where it has none), `label_id` (such as `iteration002-17`), `geometry`.
        footprints: a row an image: `image_id`, `datasource`, `iteration` (several are joined by `+`), `geometry`. An
            image without outlines is one that was looked at, with nothing on it.
        iterations: what was read.
    """

    labels: gpd.GeoDataFrame
    footprints: gpd.GeoDataFrame
    iterations: tuple[Iteration, ...]

    def of_image(self, image_id: str) -> gpd.GeoDataFrame:
        """The outlines of an image; none is an answer too."""
        return self.labels[self.labels["image_id"] == image_id]

    def of_images(self, image_ids: Sequence[str]) -> "LabelArchive":
        """The outlines and footprints of some images."""
        labels, footprints = (
            table[table["image_id"].isin(image_ids)].reset_index(drop=True) for table in (self.labels, self.footprints)
        )
        return LabelArchive(labels, footprints, self.iterations)

    def footprint(self, image_id: str) -> shapely.Geometry:
        """The footprint of an image.

        Raises:
            TrainingError: if the archive has none.
        """
        found = self.footprints[self.footprints["image_id"] == image_id]
        if found.empty:
            raise TrainingError(f"the label archive has no footprint of image {image_id!r}")
        return found.geometry.iloc[0]

    @property
    def problems(self) -> list[str]:
        """What is wrong, a sentence for each iteration that has something."""
        return [str(iteration) for iteration in self.iterations if iteration.unjoined]

    def counts(self) -> pd.DataFrame:
        """How many outlines (`labels`) there are by `iteration`, `region` and `label`."""
        return self.labels.groupby(["iteration", "region", "label"]).size().rename("labels").reset_index()


def read_archive(folder: str | Path, *, match_prefix: bool = False) -> LabelArchive:
    """Read all iterations at or below a folder.

    Args:
        folder: of the archive.
        match_prefix: take an outline whose id no footprint of its iteration has for one of the footprint whose id
            begins with it and is one character longer, if exactly one does. Off by default: it is a guess.

    Raises:
        TrainingError: if there are no labels, or a file cannot be read, lacks a column, a CRS, or has other classes.
    """
    root = Path(folder).expanduser()
    folders = sorted({path.parent for path in root.rglob(f"{_LABELS}*.gpkg")})
    if not folders:
        raise TrainingError(f"{root}: no {_LABELS}*.gpkg is in it or below it; a label archive was expected")
    labels, footprints, iterations = zip(*(_read_iteration(path, match_prefix) for path in folders), strict=True)
    return LabelArchive(_together(labels), _one_per_image(_together(footprints)), tuple(iterations))


def archive_files(folder: str | Path) -> list[Path]:
    """The files that `read_archive` reads, sorted."""
    root = Path(folder).expanduser()
    return sorted(path for kind in (_LABELS, _FOOTPRINTS) for path in root.rglob(f"{kind}*.gpkg"))


def iteration_of(folder: str) -> str:
    """The iteration that the name of a folder tells, such as `iteration005`; the name itself where it tells none."""
    named = _ITERATION.search(folder)
    return named[0].lower() if named else folder


def _read_iteration(folder: Path, match_prefix: bool) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, Iteration]:
    name = iteration_of(folder.name)
    labels, repaired = _read(folder.glob(f"{_LABELS}*.gpkg"), ("image_id", "label"))
    footprints, more = _read(folder.glob(f"{_FOOTPRINTS}*.gpkg"), ("image_id", "datasource"))
    labels = labels.assign(
        iteration=name,
        label=_classes(labels["label"], folder),
        region=labels["region"].fillna("").astype(str) if "region" in labels else "",
        label_id=[f"{name}-{number}" for number in range(len(labels))],
    )
    given = len(labels)
    completed = _by_prefix(labels["image_id"], footprints["image_id"]) if match_prefix else {}
    labels["image_id"] = labels["image_id"].replace(completed)
    lost = ~labels["image_id"].isin(footprints["image_id"])
    unjoined = {str(image): int(count) for image, count in labels.loc[lost, "image_id"].value_counts().items()}
    doubtful = _doubtful(labels[~lost], labels[lost], footprints)
    report = Iteration(
        name, given, len(footprints), repaired + more, dict(sorted(unjoined.items())), tuple(doubtful), completed
    )
    columns = ["image_id", "label", "iteration", "region", "label_id", "geometry"]
    seen = footprints.loc[~footprints["image_id"].isin(doubtful), ["image_id", "datasource", "geometry"]]
    return labels.loc[~lost, columns], seen.assign(iteration=name), report


def _doubtful(joined: gpd.GeoDataFrame, lost: gpd.GeoDataFrame, footprints: gpd.GeoDataFrame) -> list[str]:
    """Images without outlines that may be those of lost ones, because some lie on them."""
    bare = footprints[~footprints["image_id"].isin(joined["image_id"])]
    hit = bare.geometry.intersects(shapely.union_all(lost.geometry.to_numpy()))
    return sorted(bare.loc[hit, "image_id"].unique())


def _read(paths: Iterable[Path], columns: Sequence[str]) -> tuple[gpd.GeoDataFrame, int]:
    """The rows of some files with valid geometries in EPSG:4326, and how many had to be repaired."""
    tables, repaired = [gpd.GeoDataFrame({name: [] for name in columns}, geometry=[], crs=CRS)], 0
    for path in sorted(paths):
        try:
            table = gpd.read_file(path)
        except (DataSourceError, OSError, ValueError) as error:
            raise TrainingError(f"{path}: cannot be read: {error}") from error
        if missing := [name for name in columns if name not in table]:
            raise TrainingError(f"{path}: no column {', '.join(missing)}; it has {', '.join(map(str, table.columns))}")
        if table.crs is None:
            raise TrainingError(f"{path}: has no CRS")
        table = table[~(table.geometry.isna() | table.geometry.is_empty)]
        repaired += int((~table.geometry.is_valid).sum())
        table = table.set_geometry(_polygons(table.geometry)).to_crs(CRS)
        tables.append(table.assign(image_id=table["image_id"].astype(str).str.strip()))
    return _together(tables), repaired


def _polygons(shapes: gpd.GeoSeries) -> gpd.GeoSeries:
    """Valid geometries; what a repair leaves of lines and points has no area and goes."""
    valid = shapes.make_valid()
    mixed = valid.geom_type == "GeometryCollection"
    valid[mixed] = valid[mixed].map(
        lambda mixture: shapely.union_all([part for part in mixture.geoms if "Polygon" in part.geom_type])
    )
    return valid


def _classes(given: pd.Series, folder: Path) -> "pd.Series[int]":
    """Classes as int64; files have them as numbers and as text."""
    classes = pd.to_numeric(given, errors="coerce")
    wrong = ~classes.isin([BACKGROUND, SLUMP, IGNORED])
    if wrong.any():
        raise TrainingError(
            f"{folder}: label has the values {listed(sorted(map(str, given[wrong].unique())))}; {SLUMP} (slump), "
            f"{BACKGROUND} (background) or {IGNORED} (ignored) was expected"
        )
    return classes.astype("int64")


def _by_prefix(ids: "pd.Series[str]", footprints: "pd.Series[str]") -> dict[str, str]:
    """Ids that lack the last character of exactly one footprint's -> that footprint's."""
    known = set(footprints)
    candidates = {image: [full for full in known if full[:-1] == image] for image in set(ids) - known}
    return {image: found[0] for image, found in sorted(candidates.items()) if len(found) == 1}


def _one_per_image(footprints: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """An image that several iterations have, or several rows of one, is one image, seen where any of them says."""
    merged = footprints.dissolve(
        "image_id", aggfunc={"datasource": "first", "iteration": lambda names: "+".join(sorted(set(names)))}
    )
    return merged.reset_index()[["image_id", "datasource", "iteration", "geometry"]]


def _together(tables: Iterable[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    filled = [table for table in tables if len(table)] or list(tables)[:1]
    return gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), geometry="geometry", crs=CRS)


def _pairs(completed: dict[str, str]) -> str:
    return ", ".join(f"{short} -> {full}" for short, full in completed.items())
