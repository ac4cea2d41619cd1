"""The scenes of the demo world: platform, time, tile, illumination, weather."""

import datetime as dt
from dataclasses import dataclass

from affine import Affine
from odc.geo.geobox import GeoBox

EPSG = 32608
RESOLUTION = 10

# Reference corner in UTM 8 N: uplands east of the Mackenzie, at the border of tiles T08WMB and T08WNB.
_WEST_OF_T08WNB = 499980
_NORTH = 7660040


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Parameters of a synthetic scene.

    Attributes:
        platform: `S2A` or `S2B`.
        sensed: sensing time, UTC.
        produced: processing time, UTC.
        baseline: processing baseline such as `05.09`.
        orbit: relative orbit.
        absolute_orbit: orbit since launch.
        tile: MGRS tile.
        sun_azimuth: degrees clockwise from true north.
        sun_elevation: degrees.
        cloudy: whether clouds and the swath edge hide part of the scene.
        greenness: state of the season, 1 at its peak.
        west: fraction of a window's size from the left edge of T08WNB to the window's left edge.
        south: fraction of a window's size from the northern line down to the window's upper edge.
    """

    platform: str
    sensed: dt.datetime
    produced: dt.datetime
    baseline: str
    orbit: int
    absolute_orbit: int
    tile: str
    sun_azimuth: float
    sun_elevation: float
    cloudy: bool
    greenness: float
    west: float
    south: float

    @property
    def id(self) -> str:
        """Product name and id of the STAC item."""
        baseline = self.baseline.replace(".", "")
        return (
            f"{self.platform}_MSIL2A_{self.sensed:%Y%m%dT%H%M%S}_N{baseline}_R{self.orbit:03d}_T{self.tile}"
            f"_{self.produced:%Y%m%dT%H%M%S}"
        )

    @property
    def offset(self) -> float:
        """Reflectance of digital number 0: -0.1 from baseline 04.00 on, 0 before."""
        return -0.1 if self.baseline >= "04.00" else 0.0

    def geobox(self, size: int) -> GeoBox:
        """The scene's 10 m grid of `size` x `size` pixels, on the grid of its tile (multiples of 20 m)."""
        step = 2 * RESOLUTION
        left = _WEST_OF_T08WNB + step * round(self.west * size * RESOLUTION / step)
        top = _NORTH - step * round(self.south * size * RESOLUTION / step)
        return GeoBox((size, size), Affine(RESOLUTION, 0, left, 0, -RESOLUTION, top), f"EPSG:{EPSG}")


def _utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


ACQUISITIONS = (
    Acquisition(
        "S2A", _utc("2023-07-15T20:09:01"), _utc("2023-07-16T01:23:45"), "05.09", 128, 42109, "08WMB",
        sun_azimuth=173.4, sun_elevation=42.3, cloudy=False, greenness=1.0, west=-0.8, south=0.0,
    ),
    Acquisition(
        "S2B", _utc("2022-08-04T20:18:59"), _utc("2022-08-04T22:41:07"), "04.00", 28, 28264, "08WMB",
        sun_azimuth=176.9, sun_elevation=38.0, cloudy=True, greenness=0.92, west=-0.9, south=0.5,
    ),
    Acquisition(
        "S2A", _utc("2020-07-10T20:08:51"), _utc("2020-07-11T00:02:13"), "02.14", 128, 26379, "08WNB",
        sun_azimuth=173.0, sun_elevation=43.0, cloudy=False, greenness=0.97, west=0.0, south=0.2,
    ),
)  # fmt: skip
"""A clear scene, an earlier cloudy scene that overlaps half of it, and a neighbouring scene of an old baseline."""
