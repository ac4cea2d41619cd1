"""Closed outlines in polar form, for lakes, slumps, gravel and burns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from shapely.geometry import Polygon

from darts_assets.demo.noise import Field, pixel_centres


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A star-shaped outline.

    Attributes:
        x: map coordinate of its centre.
        y: map coordinate of its centre.
        heading: direction of angle 0, radians counter-clockwise from the x axis; for slumps it points uphill.
        radii: distance of the outline from the centre in map units at equal angles from the heading on.
    """

    x: float
    y: float
    heading: float
    radii: npt.NDArray[np.float64]

    @property
    def polygon(self) -> Polygon:
        """The outline in map coordinates."""
        angles = self.heading + np.linspace(0, 2 * np.pi, len(self.radii), endpoint=False)
        return Polygon(np.column_stack([self.x + self.radii * np.cos(angles), self.y + self.radii * np.sin(angles)]))

    def window(self, geobox: GeoBox, reach: float) -> tuple[slice, slice] | None:
        """Rows and columns of the grid within `reach` times the largest radius; None where that is empty."""
        size = reach * float(self.radii.max())
        affine = geobox.affine
        left, right = (self.x - size - affine.c) / affine.a, (self.x + size - affine.c) / affine.a
        top, bottom = (self.y + size - affine.f) / affine.e, (self.y - size - affine.f) / affine.e
        rows = slice(max(int(top), 0), min(int(bottom) + 1, geobox.shape[0]))
        columns = slice(max(int(left), 0), min(int(right) + 1, geobox.shape[1]))
        return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None

    def local(self, geobox: GeoBox) -> tuple[Field, Field, Field]:
        """Position of every pixel relative to the outline.

        Returns:
            Three float32 fields: distance from the centre as a fraction of the outline's (1 on the outline), distance
            to the outline along the ray in map units (positive inside), and map units along the heading.
        """
        x, y = pixel_centres(geobox)
        dx, dy = (x - self.x)[None, :], (y - self.y)[:, None]
        distance = np.hypot(dx, dy)
        angle = (np.arctan2(dy, dx) - self.heading) % (2 * np.pi)
        position = angle / (2 * np.pi) * len(self.radii)
        radius = np.interp(position, np.arange(len(self.radii) + 1), np.append(self.radii, self.radii[0]))
        along = dx * np.cos(self.heading) + dy * np.sin(self.heading)
        fraction, inside = distance / radius, radius - distance
        return fraction.astype(np.float32), inside.astype(np.float32), along.astype(np.float32)


def blob(rng: np.random.Generator, x: float, y: float, radius: float, stretch: float, rough: float) -> Outline:
    """A rounded, irregular outline of about `pi * radius**2`, elongated by `stretch` in a random direction."""
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radii = _ellipse(angles, radius * np.sqrt(stretch), radius / np.sqrt(stretch)) * _ripple(rng, angles, rough)
    return Outline(x, y, float(rng.uniform(0, 2 * np.pi)), radii)


def horseshoe(rng: np.random.Generator, x: float, y: float, heading: float, area: float) -> Outline:
    """The scar of a slump: a wide rounded head towards `heading`, a narrow toe behind; `area` in map units squared."""
    angles = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    stretch = rng.uniform(1.0, 1.7)
    pinch = 1 - rng.uniform(0.25, 0.45) * np.exp(-(((np.abs(angles - np.pi) - 0.9) / 0.55) ** 2))
    radii = _ellipse(angles, np.sqrt(stretch), 1 / np.sqrt(stretch)) * pinch * _ripple(rng, angles, 0.07)
    outline = Outline(x, y, heading, radii)
    return Outline(x, y, heading, radii * np.sqrt(area / outline.polygon.area))


def _ellipse(angles: npt.NDArray[np.float64], along: float, across: float) -> npt.NDArray[np.float64]:
    return np.asarray(1 / np.hypot(np.cos(angles) / along, np.sin(angles) / across))


def _ripple(rng: np.random.Generator, angles: npt.NDArray[np.float64], size: float) -> npt.NDArray[np.float64]:
    """1 plus harmonics 2 to 9 with falling amplitude."""
    orders = np.arange(2, 10)
    amplitudes = size * rng.normal(size=len(orders)) / (orders / 2) ** 1.3
    phases = rng.uniform(0, 2 * np.pi, len(orders))
    return np.clip(1 + (amplitudes[:, None] * np.cos(orders[:, None] * angles + phases[:, None])).sum(0), 0.4, 1.8)
