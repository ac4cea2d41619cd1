"""Ground and content that patches share, and the proof that the parts of a split share none.

The outlines of the patches are compared in the equal-area projection. Their edges are approximations of the edges of
pixels, so an outline is shrunk by a hundredth of its side before it is compared.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely
from pyproj import Transformer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from darts_assets.geo.equal_area import EQUAL_AREA
from darts_assets.sources.stac.scene_ids import listed

Outlines = npt.NDArray[np.object_]
Rows = npt.NDArray[np.intp]

_SHRUNK = 0.01  # of the side of a patch


def ground_of(samples: pd.DataFrame) -> Outlines | None:
    """Outlines of patches in `EQUAL_AREA`, slightly shrunk; None for a set without outlines.

    Args:
        samples: rows of a set; `geometry` has polygons in EPSG:4326, or their WKB.
    """
    if "geometry" not in samples:
        return None
    shapes = samples["geometry"].to_numpy()
    if len(shapes) and isinstance(shapes[0], bytes):
        shapes = shapely.from_wkb(shapes)
    transformer = Transformer.from_crs("EPSG:4326", EQUAL_AREA, always_xy=True)
    flat = shapely.transform(
        np.asarray(shapes, dtype=object), lambda points: np.stack(transformer.transform(*points.T), axis=1)
    )
    shrunk: Outlines = shapely.buffer(flat, -_SHRUNK * np.sqrt(shapely.area(flat)), join_style="mitre")
    return shrunk


def patch_side(ground: Outlines) -> float:
    """Median side of patches, metres.

    Args:
        ground: result of `ground_of`.
    """
    return float(np.median(np.sqrt(shapely.area(ground)))) / (1 - 2 * _SHRUNK) if len(ground) else 0.0


def near_pairs(ground: Outlines, other: Outlines, distance: float) -> tuple[Rows, Rows]:
    """Rows of `ground` and of `other` whose outlines are within `distance` metres; with 0, that share ground."""
    first, second = shapely.STRtree(other).query(ground, predicate="dwithin", distance=distance)
    return first, second


def joined(units: Sequence[str], ground: Outlines, distance: float) -> dict[str, str]:
    """Group of each unit; units with patches within `distance` metres of each other are one group.

    Args:
        units: unit of each patch.
        ground: outlines of the patches.
        distance: metres.

    Returns:
        Unit -> name of its group: its own name, or all names in order, joined by ` + `.
    """
    codes, names = pd.factorize(pd.Series(units, dtype="object"), sort=True)
    first, second = near_pairs(ground, ground, distance)
    links = coo_array((np.ones(len(first)), (codes[first], codes[second])), shape=(len(names), len(names)))
    labels = connected_components(links, directed=False)[1]
    members = pd.Series(names, dtype="object").groupby(labels)
    return {str(name): " + ".join(group) for _, group in members for name in group}


def duplicates(samples: pd.DataFrame) -> list[str]:
    """One sentence for each pair of images that have patches with the same pixels.

    Args:
        samples: rows of a set, with `sample_id` and `content`; without `content` nothing is compared.
    """
    if "content" not in samples:
        return []
    textured = samples[samples["content"] != ""]
    same = textured.loc[textured.duplicated("content", keep=False), ["sample_id", "content"]].astype(str)
    pairs = same.merge(same, on="content")
    pairs = pairs[pairs["sample_id_x"] < pairs["sample_id_y"]]
    counts = pairs.groupby(["sample_id_x", "sample_id_y"])["content"].nunique().reset_index()
    return [
        f"{row['sample_id_x']} and {row['sample_id_y']} have {row['content']} patches with the same pixels"
        for row in counts.to_dict("records")
    ]


def leaks(samples: pd.DataFrame, training: Sequence[int], held_out: Sequence[int], *, whole_images: bool) -> list[str]:
    """What patches of the training part share with the validation and test parts; one sentence each, none if nothing.

    Args:
        samples: rows of the set.
        training: row numbers of the training part.
        held_out: row numbers of the validation or test part.
        whole_images: whether an image must be in one part.
    """
    learned, held = samples.iloc[list(training)], samples.iloc[list(held_out)]
    problems = []
    if whole_images and (both := sorted({*learned["sample_id"]} & {*held["sample_id"]})):
        problems.append(f"images in both parts: {listed([str(name) for name in both])}")
    ground = ground_of(samples)
    if ground is not None and len(learned) and len(held):
        rows, _ = near_pairs(ground[list(held_out)], ground[list(training)], 0)
        if number := len(np.unique(rows)):
            problems.append(f"{number} held-out patches share ground with the training part")
    if "content" in samples and (number := int(held["content"].isin({*learned["content"]} - {""}).sum())):
        problems.append(f"{number} held-out patches have the same pixels as a patch of the training part")
    return problems
