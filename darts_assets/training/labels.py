"""Label archives: outlines of slumps, and footprints of the labelled images.

Each folder is an iteration of labelling, with outlines in `TrainingLabel*.gpkg` and footprints in
`ImageFootprints*.gpkg`, joined by `image_id`. In one iteration of the real archive the ids of the outlines lack their
last character. A silent join would turn its slumps into background, so unjoined outlines are reported.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import pandas as pd
import shapely

from darts_assets.errors import TrainingError
from darts_assets.geo.vector_files import read_vector
from darts_assets.sources.stac.scene_ids import listed

CRS = "EPSG:4326"

BACKGROUND, SLUMP, IGNORED = 0, 1, 2
"""Classes of labels, in archives (`label`) and in datasets (`y`)."""

_ITERATION = re.compile(r"iteration\d+", re.IGNORECASE)
_LABELS, _FOOTPRINTS = "TrainingLabel", "ImageFootprints"


@dataclass(frozen=True)
class Iteration:
    """Contents of an archive folder, and its unusable parts.

    Attributes:
        name: for example `iteration005`; the folder name if it contains no iteration number.
        labels: number of outlines.
        footprints: number of footprints.
        repaired: number of outlines and footprints with invalid geometries, which were repaired.
        unjoined: number of outlines by image id, for ids without a footprint. These outlines are left out.
        doubtful: images without outlines whose footprints intersect unjoined outlines. They are left out too, because
            slumps on them would become background.
        joined_by_prefix: completed image id by incomplete id of outlines.
    """

    name: str
    labels: int
    footprints: int
    repaired: int
    unjoined: dict[str, int]
    doubtful: tuple[str, ...]
    joined_by_prefix: dict[str, str]

    def __str__(self) -> str:
        text = f"{self.name}: {self.labels} outlines, {self.footprints} footprints"
        if self.unjoined:
            lost = sum(self.unjoined.values())
            why = "" if self.footprints else " (there are no footprints)"
            text += f"; {lost} outlines of {len(self.unjoined)} images have no footprint{why} and are left out: "
            text += listed(list(self.unjoined))
        if self.doubtful:
            text += f"; {len(self.doubtful)} images without outlines that intersect them, too: {listed(self.doubtful)}"
        if self.joined_by_prefix:
            text += f"; the ids of {len(self.joined_by_prefix)} images were completed: {_pairs(self.joined_by_prefix)}"
        return text


@dataclass(frozen=True)
class LabelArchive:
    """Joined outlines and footprints, EPSG:4326.

    Attributes:
        labels: one row per outline: `image_id`, `label` (int64: 0 background, 1 slump, 2 ignored), `iteration`,
            `region` (from the archive, or ""), `label_id` (for example `iteration002-17`), `geometry`.
        footprints: one row per image: `image_id`, `datasource`, `iteration` (several joined by `+`), `geometry`. An
            image without outlines was inspected and shows no slumps.
        iterations: the folders.
    """

    labels: gpd.GeoDataFrame
    footprints: gpd.GeoDataFrame
    iterations: tuple[Iteration, ...]

    def of_image(self, image_id: str) -> gpd.GeoDataFrame:
        """The outlines of an image; may be empty."""
        return self.labels[self.labels["image_id"] == image_id]

    def of_images(self, image_ids: Sequence[str]) -> "LabelArchive":
        """The outlines and footprints of `image_ids`."""
        labels, footprints = (
            table[table["image_id"].isin(image_ids)].reset_index(drop=True) for table in (self.labels, self.footprints)
        )
        return LabelArchive(labels, footprints, self.iterations)

    def footprint(self, image_id: str) -> shapely.Geometry:
        """The footprint of an image.

        Raises:
            TrainingError: if the archive contains no footprint of the image.
        """
        matches = self.footprints[self.footprints["image_id"] == image_id]
        if matches.empty:
            raise TrainingError(f"the label archive has no footprint of image {image_id!r}")
        return matches.geometry.iloc[0]

    @property
    def problems(self) -> list[str]:
        """One sentence for each iteration with unjoined outlines."""
        return [str(iteration) for iteration in self.iterations if iteration.unjoined]

    def counts(self) -> pd.DataFrame:
        """Number of outlines (`labels`) by `iteration`, `region` and `label`."""
        return self.labels.groupby(["iteration", "region", "label"]).size().rename("labels").reset_index()


def read_archive(folder: str | Path, *, match_prefix: bool = False) -> LabelArchive:
    """Read all iterations in a folder and its subfolders.

    Args:
        folder: folder of the archive.
        match_prefix: complete an unjoined id if exactly one footprint of the iteration has it plus one character. Off
            by default, because this is a guess.

    Raises:
        TrainingError: if there are no labels, or a file cannot be read, lacks a column, a CRS, or has other classes.
    """
    root = Path(folder).expanduser()
    folders = sorted({path.parent for path in root.rglob(f"{_LABELS}*.gpkg")})
    if not folders:
        raise TrainingError(
            f"{root}: expected a label archive, but neither the folder nor its subfolders contain {_LABELS}*.gpkg"
        )
    labels, footprints, iterations = zip(*(_read_iteration(path, match_prefix) for path in folders), strict=True)
    return LabelArchive(_together(labels), _one_per_image(_together(footprints)), tuple(iterations))


def archive_files(folder: str | Path) -> list[Path]:
    """The files that `read_archive` reads, sorted."""
    root = Path(folder).expanduser()
    return sorted(path for kind in (_LABELS, _FOOTPRINTS) for path in root.rglob(f"{kind}*.gpkg"))


def iteration_of(folder: str) -> str:
    """Iteration in the name of a folder, for example `iteration005`; the folder name if it contains none."""
    match = _ITERATION.search(folder)
    return match[0].lower() if match else folder


def _read_iteration(folder: Path, match_prefix: bool) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame, Iteration]:
    name = iteration_of(folder.name)
    labels, repaired = _read(folder.glob(f"{_LABELS}*.gpkg"), ("image_id", "label"))
    footprints, more = _read(folder.glob(f"{_FOOTPRINTS}*.gpkg"), ("image_id", "datasource"))
    labels = labels.assign(
        iteration=name,
        label=classes_of(labels["label"], folder),
        region=labels["region"].fillna("").astype(str) if "region" in labels else "",
        label_id=[f"{name}-{number}" for number in range(len(labels))],
    )
    count = len(labels)
    completed = _by_prefix(labels["image_id"], footprints["image_id"]) if match_prefix else {}
    labels["image_id"] = labels["image_id"].replace(completed)
    lost = ~labels["image_id"].isin(footprints["image_id"])
    unjoined = {str(image): int(count) for image, count in labels.loc[lost, "image_id"].value_counts().items()}
    doubtful = _doubtful(labels[~lost], labels[lost], footprints)
    report = Iteration(
        name, count, len(footprints), repaired + more, dict(sorted(unjoined.items())), tuple(doubtful), completed
    )
    columns = ["image_id", "label", "iteration", "region", "label_id", "geometry"]
    seen = footprints.loc[~footprints["image_id"].isin(doubtful), ["image_id", "datasource", "geometry"]]
    return labels.loc[~lost, columns], seen.assign(iteration=name), report


def _doubtful(joined: gpd.GeoDataFrame, lost: gpd.GeoDataFrame, footprints: gpd.GeoDataFrame) -> list[str]:
    """Images without outlines whose footprints intersect unjoined outlines."""
    bare = footprints[~footprints["image_id"].isin(joined["image_id"])]
    hit = bare.geometry.intersects(shapely.union_all(lost.geometry.to_numpy()))
    return sorted(bare.loc[hit, "image_id"].unique())


def _read(paths: Iterable[Path], columns: Sequence[str]) -> tuple[gpd.GeoDataFrame, int]:
    """Rows of all files with valid geometries in EPSG:4326, and the number of repaired geometries."""
    tables, repaired = [gpd.GeoDataFrame({name: [] for name in columns}, geometry=[], crs=CRS)], 0
    for path in sorted(paths):
        try:
            table = read_vector(path)
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path}: cannot be read: {error}") from error
        if missing := [name for name in columns if name not in table]:
            raise TrainingError(
                f"{path}: missing column {', '.join(missing)}; columns are {', '.join(map(str, table.columns))}"
            )
        if table.crs is None:
            raise TrainingError(f"{path}: no CRS")
        table = table[~(table.geometry.isna() | table.geometry.is_empty)]
        repaired += int((~table.geometry.is_valid).sum())
        table = table.set_geometry(polygons_of(table.geometry)).to_crs(CRS)
        tables.append(table.assign(image_id=table["image_id"].astype(str).str.strip()))
    return _together(tables), repaired


def polygons_of(shapes: gpd.GeoSeries) -> gpd.GeoSeries:
    """Valid polygons; lines and points left by the repair are dropped."""
    valid = shapes.make_valid()
    mixed = valid.geom_type == "GeometryCollection"
    valid[mixed] = valid[mixed].map(
        lambda mixture: shapely.union_all([part for part in mixture.geoms if "Polygon" in part.geom_type])
    )
    return valid


def classes_of(given: pd.Series, folder: Path) -> "pd.Series[int]":
    """Classes as int64, from numbers or text."""
    classes = pd.to_numeric(given, errors="coerce")
    wrong = ~classes.isin([BACKGROUND, SLUMP, IGNORED])
    if wrong.any():
        raise TrainingError(
            f"{folder}: unknown values of label: {listed(sorted(map(str, given[wrong].unique())))}; expected {SLUMP} "
            f"(slump), {BACKGROUND} (background) or {IGNORED} (ignored)"
        )
    return classes.astype("int64")


def _by_prefix(ids: "pd.Series[str]", footprints: "pd.Series[str]") -> dict[str, str]:
    """Completed id by incomplete id, where exactly one footprint id is one character longer."""
    known = set(footprints)
    candidates = {image: [full for full in known if full[:-1] == image] for image in set(ids) - known}
    return {image: matches[0] for image, matches in sorted(candidates.items()) if len(matches) == 1}


def _one_per_image(footprints: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Merge the footprints of an image that occurs in several iterations or rows."""
    merged = footprints.dissolve(
        "image_id", aggfunc={"datasource": "first", "iteration": lambda names: "+".join(sorted(set(names)))}
    )
    return merged.reset_index()[["image_id", "datasource", "iteration", "geometry"]]


def _together(tables: Iterable[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    filled = [table for table in tables if len(table)] or list(tables)[:1]
    return gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), geometry="geometry", crs=CRS)


def _pairs(completed: dict[str, str]) -> str:
    return ", ".join(f"{short} -> {full}" for short, full in completed.items())
