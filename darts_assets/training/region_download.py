"""Administrative regions from the web, fetched once into the store."""

import hashlib
import io
import logging
import tempfile
from contextlib import suppress
from pathlib import Path

import geopandas as gpd
import obstore

from darts_assets.errors import SourceUnavailableError, StoreError
from darts_assets.remote.byte_reader import ByteReader, S3Options, is_remote, shown
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.training.regions import named_regions, read_region_file, read_regions

_log = logging.getLogger(__name__)

GEOBOUNDARIES = "geoboundaries"
"""In place of a file: second-level regions of the whole world, by geoBoundaries (CGAZ, CC BY 4.0)."""

GEOBOUNDARIES_URL = "https://github.com/wmgeolab/geoBoundaries/raw/main/releaseData/CGAZ/geoBoundariesCGAZ_ADM2.gpkg"
"""A GeoPackage of about 300 MB."""

_SOUTH = 25.0
"""Degrees; regions south of it are not kept. The Tibetan Plateau is north of it."""

_FILE = "regions.parquet"


def regions_from(
    location: str, around: gpd.GeoDataFrame, cache: StoreLocation, *, offline: bool = False
) -> gpd.GeoDataFrame | None:
    """The regions around footprints; see `read_regions`.

    Args:
        location: a path, a URL, or `GEOBOUNDARIES`. What comes from the web is kept in the store.
        around: footprints that limit the latitudes.
        cache: folder of fetched regions.
        offline: fetch nothing.

    Returns:
        None, with a warning, if the regions are neither in the store nor can be fetched: the set can then not be split
        by region.

    Raises:
        TrainingError: if the file cannot be read, or lacks the column or a CRS.
    """
    url = GEOBOUNDARIES_URL if location == GEOBOUNDARIES else location
    if not is_remote(url):
        return read_regions(url, around)
    place = Place(cache.child(hashlib.sha256(url.encode()).hexdigest()[:16]))
    table = _kept(place)
    if table is None:
        problem = "DARTS_OFFLINE is set" if offline else _fetch(url, place)
        table = _kept(place)
        if table is None:
            _log.warning(
                "regions of %s are not in the store and cannot be fetched (%s): all images belong to one region, so "
                "that `split_by: auto` divides the set by sample. Or set `regions` to a file",
                shown(url), problem,
            )  # fmt: skip
            return None
    _, south, _, north = around.to_crs("EPSG:4326").total_bounds
    return named_regions(table.cx[:, south:north], "region")


def _kept(place: Place) -> gpd.GeoDataFrame | None:
    manifest = place.manifest()
    if manifest is None:
        return None
    folder = place.location.child(manifest.contents[_FILE])
    return gpd.read_parquet(io.BytesIO(bytes(obstore.get(folder.objects(), _FILE).bytes())))


def _fetch(url: str, place: Place) -> str:
    """Fetch regions into the store; returns the reason if the service cannot be reached or lacks the file, or ""."""
    _log.info("fetching regions from %s", shown(url))
    try:
        reader = ByteReader(url, S3Options(anonymous=True))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(url.partition("?")[0]).name
            reader.save(str(path))
            table = read_region_file(path, (-180.0, _SOUTH, 180.0, 90.0))
    except (SourceUnavailableError, FileNotFoundError) as error:
        return str(error)
    content = io.BytesIO()
    named = table.rename(columns={"shapeName": "region"})[["region", "geometry"]].to_crs("EPSG:4326")
    named.to_parquet(content, index=False)
    with suppress(StoreError), place.new_version() as version:  # another run publishes the same content
        obstore.put(version.location.objects(), _FILE, content.getvalue())
        place.publish(version, {_FILE: version.id}, {"url": shown(url), "regions": len(named)})
    return ""
