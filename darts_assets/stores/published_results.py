"""The current content of many places of a store, by their pointers; no data are read."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import obstore

from darts_assets.errors import DartsError
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place

_REQUESTS = 16


@dataclass(frozen=True)
class PublishedResults:
    """What is published in the places of a folder.

    Attributes:
        manifests: name of a place -> its current content, ordered by name.
        damaged: name of a place whose pointer cannot be read -> reason.
    """

    manifests: dict[str, Manifest] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


def published_results(folder: StoreLocation) -> PublishedResults:
    """Read the pointers of all places directly below a folder; places without content are left out.

    Raises:
        StoreError: if the folder cannot be listed.
    """
    results = PublishedResults()
    names = folder.folders()

    def read(name: str) -> Manifest | DartsError | None:
        try:
            return Place(folder.child(name)).manifest()
        except DartsError as error:
            return error

    with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="pointers") as pool:
        for name, manifest in zip(names, pool.map(read, names), strict=True):
            if isinstance(manifest, DartsError):
                results.damaged[name] = str(manifest)
            elif manifest is not None:
                results.manifests[name] = manifest
    return results


def documents(folder: StoreLocation, suffix: str = ".json") -> list[str]:
    """Names, without their suffix, of the objects directly below a folder that have the suffix, sorted."""
    if folder.is_local and not folder.path.is_dir():
        return []
    names = (entry["path"] for entry in obstore.list_with_delimiter(folder.objects())["objects"])
    return sorted(name.removesuffix(suffix) for name in names if name.endswith(suffix))
