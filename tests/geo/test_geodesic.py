import numpy as np
import pytest
import shapely
from pyproj import Transformer

from darts_assets.geo.geodesic import geodesic_area


def square(side: float, x: float = 500_000, y: float = 7_720_000) -> shapely.Polygon:
    return shapely.box(x, y, x + side, y + side)


def test_the_area_does_not_depend_on_the_projection() -> None:
    outline = shapely.box(-138.7, 69.55, -138.69, 69.56)
    areas = {}
    for crs in ("EPSG:32607", "EPSG:32608", "EPSG:3413", "EPSG:6931"):
        to_crs = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        projected = shapely.transform(shapely.segmentize(outline, 1e-4), to_crs.transform, interleaved=False)
        areas[crs] = geodesic_area(np.array([projected]), crs)[0]
        if crs == "EPSG:6931":
            assert areas[crs] == pytest.approx(projected.area, rel=1e-6)  # equal-area
    assert list(areas.values()) == pytest.approx([areas["EPSG:6931"]] * 4, rel=1e-6)


def test_utm_is_not_equal_area() -> None:
    (area,) = geodesic_area(np.array([square(100)]), "EPSG:32608")
    assert area == pytest.approx(10_000 / 0.9996**2, rel=1e-6), "on the central meridian UTM shrinks lengths by 0.9996"


def test_holes_and_parts_count() -> None:
    holed = square(1000) - square(500)
    several = shapely.MultiPolygon([square(100), square(100, x=510_000)])
    mirrored = shapely.reverse(square(100))
    whole, hole, part, far = geodesic_area(
        np.array([square(1000), square(500), square(100), square(100, x=510_000)]), 32608
    )
    areas = geodesic_area(np.array([holed, several, mirrored]), 32608)
    np.testing.assert_allclose(areas, [whole - hole, part + far, part], rtol=1e-9)
    assert geodesic_area(np.array([], dtype=object), 32608).shape == (0,)


def test_across_the_antimeridian_and_with_long_edges() -> None:
    (area,) = geodesic_area(np.array([square(100_000, 560_000, 7_600_000)]), "EPSG:32660")
    equal = Transformer.from_crs("EPSG:32660", "EPSG:6931", always_xy=True)
    reference = shapely.transform(
        shapely.segmentize(square(100_000, 560_000, 7_600_000), 1000), equal.transform, interleaved=False
    )
    assert area == pytest.approx(reference.area, rel=1e-6)
