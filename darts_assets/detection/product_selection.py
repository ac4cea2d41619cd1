"""The products that can be asked for, and what each needs."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from darts_assets.bands import OPTICAL, TCVIS, TERRAIN
from darts_assets.errors import SettingsError

DEFAULT_PRODUCTS = ("probabilities", "binarized", "polygonized", "extent", "thumbnail", "metadata")

RASTER_GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"optical": ("red", "green", "blue", "nir"), "dem": ("slope", "relative_elevation"), "tcvis": TCVIS}
)
"""Products that are one raster of several bands; `dem` is therefore not the elevation band."""

SINGLE_BANDS = (
    *OPTICAL,
    "ndvi",
    *TERRAIN,
    *TCVIS,
    "arcticdem_data_mask",
    "quality_data_mask",
    "s2_scl",
    "planet_udm",
)
"""Bands that can be asked for by name."""

_FEATURES_OF_THUMBNAIL = ("red", "green", "blue")


def bands_of(product: str) -> tuple[str, ...]:
    """The bands of the preprocessed tile that a product shows."""
    if product == "thumbnail":
        return _FEATURES_OF_THUMBNAIL
    if product in SINGLE_BANDS:
        return (product,)
    return RASTER_GROUPS.get(product, ())


def check_products(products: Sequence[str], bands: Iterable[str] | None = None) -> None:
    """Refuse products that do not exist.

    Args:
        products: names of products.
        bands: bands of the tile, None where they are not known yet.

    Raises:
        SettingsError: for an unknown product, naming the known ones; or for one whose bands the tile does not have.
    """
    known = (*DEFAULT_PRODUCTS, *RASTER_GROUPS)
    unknown = [name for name in products if name not in known and name not in SINGLE_BANDS]
    if unknown:
        raise SettingsError(
            f"unknown product(s) {', '.join(unknown)}; known are {', '.join(known)}, "
            f"or a band by name: {', '.join(SINGLE_BANDS)}"
        )
    if bands is None:
        return
    present = set(bands)
    for product in products:
        missing = [band for band in bands_of(product) if band not in present]
        if missing:
            raise SettingsError(
                f"product {product} needs band(s) {', '.join(missing)}; the tile has {', '.join(sorted(present))}"
            )
