"""Thaw slumps and confusers, which resemble slumps in some of the data.

A slump has bare mud, a headwall with a lowered floor, and a trend towards brighter, barer and drier ground. Each
confuser lacks part of these: gravel has no headwall and no trend, a stabilised scar only the headwall, a burn only the
trend, stripped ground no headwall.
"""

import dataclasses
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from darts_assets.demo.landscape import Landscape, hill_gradient
from darts_assets.demo.noise import Field, fractal, noise, smoothstep
from darts_assets.demo.polar_outlines import Outline, blob, horseshoe

_SMALLEST, _LARGEST = 0.5e4, 15e4
"""Areas of slumps, m2."""


@dataclass(frozen=True, slots=True, eq=False)
class Disturbed:
    """A landscape with its slumps and confusers; all fields float32 on the landscape's grid.

    Attributes:
        landscape: the ground, its elevation with the scars in it.
        slumps: outlines of the true slumps, in the grid's CRS.
        mud: 0 to 1, bare mud of active slumps.
        gravel: 0 to 1, bare gravel and stripped ground.
        trend: 0 to 1, how strongly slumps and stripping changed the surface in twenty years.
        burn: 0 to 1, burnt area.
    """

    landscape: Landscape
    slumps: tuple[Outline, ...]
    mud: Field
    gravel: Field
    trend: Field
    burn: Field


def disturb(
    landscape: Landscape,
    allowed: npt.NDArray[np.bool_],
    within: npt.NDArray[np.bool_],
    count: int,
    seed: int,
    block: tuple[int, ...] = (),
    grown: float = 1.0,
) -> Disturbed:
    """Add slumps and confusers to a landscape.

    Args:
        landscape: the untouched ground.
        allowed: mask for the centres of slumps, shape of the grid.
        within: mask for confusers, shape of the grid.
        count: number of slumps; fewer if the space does not suffice.
        seed: seed of the world.
        block: row and column of the block of the world; empty for the whole world.
        grown: area of the slumps as a fraction of their final area.
    """
    rng = np.random.default_rng([seed, 1, *block])
    geobox = landscape.geobox
    gradient = hill_gradient(landscape.elevation, geobox.resolution.x, 60)
    taken = landscape.water > 0.2
    slumps = _place(rng, landscape, gradient, allowed & ~taken, count, taken)
    slumps = [dataclasses.replace(slump, radii=slump.radii * np.sqrt(grown)) for slump in slumps]
    scars = _place(rng, landscape, gradient, allowed & ~taken, count // 3, taken)
    free = within & ~taken
    gravel = _patches(rng, geobox, free, round(1.2 * count), (35, 150))
    stripped = _patches(rng, geobox, free, count // 4, (35, 120))
    burns = _patches(rng, geobox, free, max(1, count // 8), (250, 800))

    elevation = landscape.elevation.copy()
    mud, trend = np.zeros_like(elevation), np.zeros_like(elevation)
    wear = fractal(geobox, {120: 0.18, 40: 0.15}, seed * 1000 + 20)
    for scar in slumps + scars:
        _dig(rng, geobox, elevation, scar)
    for slump in slumps:
        window = slump.window(geobox, 1.3)
        if window is not None:
            _bare(rng, geobox[window], slump, wear[window], mud[window], trend[window])
    return Disturbed(
        landscape=dataclasses.replace(landscape, elevation=elevation),
        slumps=tuple(slumps),
        mud=mud,
        gravel=_filled(geobox, gravel + stripped, softness=10) * np.clip(0.85 + wear, 0, 1),
        trend=np.maximum(trend, 0.7 * _filled(geobox, stripped, softness=18) * np.clip(1 + 0.6 * wear, 0, 1)),
        burn=_filled(geobox, burns, softness=60) * np.clip(0.8 + 0.3 * noise(geobox, 150, seed * 1000 + 21), 0, 1),
    )


def _place(
    rng: np.random.Generator,
    landscape: Landscape,
    gradient: tuple[Field, Field],
    allowed: npt.NDArray[np.bool_],
    count: int,
    taken: npt.NDArray[np.bool_],
) -> list[Outline]:
    """Outlines of slumps on slopes near water without overlap; marks their ground as `taken`."""
    geobox = landscape.geobox
    resolution = geobox.resolution.x
    to_water = cv2.distanceTransform((landscape.water < 0.5).astype(np.uint8), cv2.DIST_L2, 5) * resolution
    slope = np.hypot(*gradient)
    weight = smoothstep(slope, 0.03, 0.12) * np.exp(-to_water / np.float32(350)) + np.float32(1e-9)
    weight[~allowed] = 0
    # Weighted sampling without replacement: the largest values of u ** (1 / weight) come first.
    with np.errstate(divide="ignore"):
        order = np.log(rng.random(weight.shape, dtype=np.float32)) / weight
    outlines: list[Outline] = []
    candidates = np.flatnonzero(weight > 0)
    best = min(len(candidates), 4000 + 400 * count)
    candidates = candidates[np.argpartition(-order.ravel()[candidates], best - 1)[:best]] if best else candidates
    for index in candidates[np.argsort(-order.ravel()[candidates])]:
        if len(outlines) == count:
            break
        row, column = np.unravel_index(index, weight.shape)
        area = float(np.clip(rng.lognormal(np.log(2.6e4), 0.8), _SMALLEST, _LARGEST))
        heading = float(np.arctan2(gradient[1][row, column], gradient[0][row, column])) + rng.normal(0, 0.15)
        x, y = geobox.pix2wld(float(column) + 0.5, float(row) + 0.5)
        outline = horseshoe(rng, x, y, heading, area)
        window = outline.window(geobox, 1.4)
        assert window is not None  # its centre lies on the grid
        close = outline.local(geobox[window])[1] > -60
        if not taken[window][close].any():
            taken[window] |= close
            outlines.append(outline)
    return outlines


def _patches(
    rng: np.random.Generator, geobox: GeoBox, free: npt.NDArray[np.bool_], count: int, radii: tuple[float, float]
) -> list[Outline]:
    """Blobs on free ground; fewer than `count` if the space does not suffice."""
    outlines: list[Outline] = []
    for index in rng.choice(np.flatnonzero(free), size=20 * count):
        if len(outlines) == count:
            break
        row, column = np.unravel_index(index, free.shape)
        x, y = geobox.pix2wld(float(column) + 0.5, float(row) + 0.5)
        radius = float(np.exp(rng.uniform(*np.log(radii))))
        outline = blob(rng, x, y, radius, stretch=rng.uniform(1, 2.5), rough=0.15)
        window = outline.window(geobox, 1.0)
        if window is not None and free[window][outline.local(geobox[window])[1] > 0].all():
            outlines.append(outline)
    return outlines


def _dig(rng: np.random.Generator, geobox: GeoBox, elevation: Field, scar: Outline) -> None:
    """Lower the floor towards the head, with a steep headwall, and add debris below the toe; in place."""
    window = scar.window(geobox, 1.6)
    if window is None:
        return
    _, inside, along = scar.local(geobox[window])
    half_length = float(scar.radii.max())
    depth = float(np.clip(rng.normal(6, 1.5) * (scar.polygon.area / 3e4) ** 0.3, 2.5, 14))
    towards_head = smoothstep(along, -half_length, 0.6 * half_length)
    elevation[window] -= depth * smoothstep(inside, -4, 18) * (0.12 + 0.88 * towards_head)
    debris = smoothstep(-np.hypot(inside, 40), -90, -40) * (1 - smoothstep(along, -half_length, -0.3 * half_length))
    elevation[window] += 0.25 * depth * debris * (inside < 0)


def _bare(rng: np.random.Generator, geobox: GeoBox, slump: Outline, wear: Field, mud: Field, trend: Field) -> None:
    """Add mud with regrowth at the toe of old slumps, and a trend that is weak for young slumps; in place."""
    _, inside, along = slump.local(geobox)
    half_length = float(slump.radii.max())
    regrown = rng.uniform(0, 0.45) * (1 - smoothstep(along, -half_length, 0.3 * half_length))
    strength = rng.uniform(0.75, 1.0)
    np.maximum(mud, smoothstep(inside, -4, 5) * np.clip(strength - regrown + wear, 0.15, 1), out=mud)
    np.maximum(trend, smoothstep(inside, -18, 14) * rng.uniform(0.2, 1.0) * np.clip(1 + 0.6 * wear, 0, 1), out=trend)


def _filled(geobox: GeoBox, outlines: list[Outline], softness: float) -> Field:
    field = np.zeros(geobox.shape, dtype=np.float32)
    for outline in outlines:
        window = outline.window(geobox, 1.3)
        if window is not None:
            inside = outline.local(geobox[window])[1]
            field[window] = np.maximum(field[window], smoothstep(inside, -softness, softness))
    return field
