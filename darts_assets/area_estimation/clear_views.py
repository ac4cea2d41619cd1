"""How clear scenes see the surroundings of points."""

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import pandas as pd
import shapely

SIDE = 600.0
"""Width of the surroundings in metres, that of a picture."""

_SEASON = 213  # day of the year: 1 August, when slumps are thawed and snow is rare


def clear_shares(points: gpd.GeoSeries, observed: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """The share of the square around each point that a scene observes.

    Args:
        points: in an equal-area CRS in metres, (n,).
        observed: disjoint polygons of the clear area of the scene, in that CRS.

    Returns:
        Fractions, (n,); 0 for points that themselves are not observed.
    """
    places = points.to_numpy()
    shares = np.zeros(len(places))
    seen = np.unique(shapely.STRtree(observed).query(places, predicate="intersects")[0])
    if not len(seen):
        return shares
    x, y = shapely.get_x(places[seen]), shapely.get_y(places[seen])
    squares = shapely.box(x - SIDE / 2, y - SIDE / 2, x + SIDE / 2, y + SIDE / 2)
    square, part = shapely.STRtree(observed).query(squares, predicate="intersects")
    areas = shapely.area(shapely.intersection(squares[square], observed[part]))
    shares[seen] = np.bincount(square, weights=areas, minlength=len(seen)) / SIDE**2
    return np.minimum(shares, 1.0)


def ranked_views(shares: npt.NDArray[np.float64], times: "pd.Series[pd.Timestamp]") -> list[list[int]]:
    """The scenes that observe each point, the clearest first.

    Scenes are equally clear if their shares round to the same percent; then the one nearest to 1 August comes first.

    Args:
        shares: of `clear_shares` for each scene, (scenes, n).
        times: sensing times of the scenes, (scenes,).

    Returns:
        Numbers of scenes for each of the n points.
    """
    days = (times.dt.dayofyear - _SEASON).abs().to_numpy()
    views = []
    for column in np.round(shares, 2).T:
        order = np.lexsort((np.arange(len(days)), days, -column))
        views.append([int(scene) for scene in order if column[scene] > 0])
    return views
