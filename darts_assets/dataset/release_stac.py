"""A release as a STAC collection: an item for each layer, with its files as assets."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import pystac
import shapely
from pystac.extensions.file import FileExtension
from pystac.extensions.scientific import ScientificExtension
from pystac.extensions.table import COLUMNS_PROP, TableExtension
from pystac.extensions.version import VersionExtension
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from darts_assets.catalog.scene_item import MEDIA_TYPES, link, multihash
from darts_assets.catalog.scene_regions import box_of
from darts_assets.dataset.release_documents import ReleaseFacts, ReleaseFile, authors_of, display_name
from darts_assets.dataset.release_parameters import ReleaseParameters

COLLECTION, FOLDER = "collection.json", "items"
"""File of the collection, and folder of its items."""

_ROLES = {".qml": "style", ".md": "metadata", ".json": "metadata"}
_OWN = {".geojson": "application/geo+json", ".md": "text/markdown", ".csv": "text/csv", ".txt": "text/plain"}


def release_stac(
    parameters: ReleaseParameters,
    facts: ReleaseFacts,
    groups: Mapping[str, Sequence[ReleaseFile]],
    area: BaseGeometry,
) -> dict[str, dict[str, Any]]:
    """The documents, by their paths in the release.

    Args:
        parameters: of the release.
        facts: of the release.
        groups: name of an item -> its files.
        area: area of the images in EPSG:4326, cut at the antimeridian.
    """
    start, end = (
        pystac.utils.str_to_datetime(time)
        for time in (f"{facts.years[0]}-01-01T00:00:00Z", f"{facts.years[1]}-12-31T23:59:59Z")
    )
    extent = pystac.Extent(pystac.SpatialExtent([list(facts.bbox)]), pystac.TemporalExtent([[start, end]]))
    collection = pystac.Collection(
        f"{parameters.name}-{parameters.version}".lower(), parameters.description or parameters.title, extent,
        parameters.title, license=parameters.licence, keywords=["permafrost", "retrogressive thaw slumps", "Arctic"],
        providers=[
            pystac.Provider(display_name(author), roles=[pystac.ProviderRole.PRODUCER])
            for author in authors_of(parameters)
        ],
    )  # fmt: skip
    VersionExtension.ext(collection, add_if_missing=True).apply(version=parameters.version)
    collection.links = [link("root", f"./{COLLECTION}")]
    if parameters.doi:
        ScientificExtension.ext(collection, add_if_missing=True).apply(doi=parameters.doi)
    documents: dict[str, dict[str, Any]] = {}
    for name, files in groups.items():
        item = pystac.Item(
            f"{collection.id}-{name}", None if area.is_empty else dict(mapping(shapely.orient_polygons(area))),
            None if area.is_empty else box_of(area), None,
            {"title": f"{parameters.title}: {name}", "start_datetime": _text(start), "end_datetime": _text(end)},
            collection=collection.id,
        )  # fmt: skip
        FileExtension.add_to(item)
        if fields := next((each.fields for each in files if each.fields), ()):
            # The files of an item hold the same table.
            table = TableExtension.ext(item, add_if_missing=True)
            table.properties[COLUMNS_PROP] = [_column(each) for each in fields]
            if "geometry" in (each["name"] for each in fields):
                table.primary_geometry = "geometry"
        for each in files:
            item.assets[_key(each, files)] = _asset(each)
        item.links = [link(rel, f"../{COLLECTION}") for rel in ("root", "parent", "collection")]
        path = f"{FOLDER}/{name}.json"
        documents[path] = item.to_dict(transform_hrefs=False)
        collection.links.append(link("item", f"./{path}", pystac.MediaType.GEOJSON, title=name))
    documents[COLLECTION] = collection.to_dict(transform_hrefs=False)
    return documents


def _asset(file: ReleaseFile) -> pystac.Asset:
    suffix = PurePosixPath(file.path).suffix
    return pystac.Asset(
        f"../{file.path}", file.title, media_type=str((MEDIA_TYPES | _OWN)[suffix]), roles=[_ROLES.get(suffix, "data")],
        extra_fields={
            "file:size": file.bytes,
            "file:checksum": multihash(file.sha256),
        },
    )  # fmt: skip


def _column(field: Mapping[str, Any]) -> dict[str, Any]:
    return {name: field[name] for name in ("name", "type", "description")}


def _key(file: ReleaseFile, files: Sequence[ReleaseFile]) -> str:
    """The suffix of the file, or its name if other files of the item have the same suffix."""
    path = PurePosixPath(file.path)
    same = [each for each in files if PurePosixPath(each.path).suffix == path.suffix]
    return path.suffix[1:] if len(same) == 1 else file.path


def _text(time: Any) -> str:
    return pystac.utils.datetime_to_str(time)
