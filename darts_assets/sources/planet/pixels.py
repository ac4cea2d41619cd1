"""Which band of an image's file is which, and what its numbers are worth."""

from collections.abc import Mapping, Sequence

from darts_assets.bands import VISIBLE_NIR
from darts_assets.errors import SceneError

SR_SCALE = 1e-4
"""Surface reflectance of one digital number."""

_ORDER: Mapping[int, tuple[str, ...]] = {
    4: VISIBLE_NIR,
    8: ("coastal", "blue", "", "green", "", "red", "rededge071", "nir"),
}
"""Count of bands -> our names of them, in Planet's order; "" are green I and yellow, which nobody here needs.

4: blue, green, red, near infrared. 8 (SuperDove, `_8b`): coastal blue 443 nm, blue 490, green I 531, green 565, yellow
610, red 665, red edge 705, near infrared 865. Five bands (RapidEye, or 4 and red edge) do not say which four to take.
"""

_WORDS: Mapping[str, str] = {
    "blue": "blue", "green": "green", "red": "red", "nir": "nir", "near infrared": "nir", "near-infrared": "nir",
    "coastal blue": "coastal", "coastal": "coastal", "rededge": "rededge071", "red edge": "rededge071",
}  # fmt: skip
"""Descriptions of bands in the files -> our names."""


def band_names(descriptions: Sequence[str | None]) -> tuple[str, ...]:
    """Our name of each band of a file, "" for those that nobody here needs.

    Files of four or eight bands may describe their bands: then that counts, else Planet's order.

    Args:
        descriptions: of all bands of the file, None where it has none.

    Raises:
        SceneError: if there are neither four nor eight bands, or the descriptions do not tell blue, green, red and nir.
    """
    count = len(descriptions)
    if count not in _ORDER:
        raise SceneError(
            f"{count} band(s); 4 were expected (blue, green, red, nir), or 8 (coastal blue, blue, green I, green, "
            "yellow, red, red edge, nir)"
        )
    said = [(text or "").strip().lower().replace("_", " ") for text in descriptions]
    names = tuple(_WORDS.get(text, "") for text in said)
    if not set(names) & set(VISIBLE_NIR):
        return _ORDER[count]
    if wrong := [name for name in VISIBLE_NIR if names.count(name) != 1]:
        raise SceneError(f"bands that are described as {', '.join(said)}; {', '.join(wrong)} were expected once each")
    return names


def toa_scales(coefficients: Mapping[int, float], count: int) -> tuple[float, ...]:
    """Top-of-atmosphere reflectance of one digital number, for each band of a file.

    Raises:
        SceneError: if the metadata lack the coefficient of a band.
    """
    if wrong := [number for number in range(1, count + 1) if not coefficients.get(number, 0) > 0]:
        raise SceneError(
            "top-of-atmosphere digital numbers, whose *_metadata.xml has no reflectanceCoefficient of band "
            f"{', '.join(map(str, wrong))}: they cannot become reflectance"
        )
    return tuple(coefficients[number] for number in range(1, count + 1))
