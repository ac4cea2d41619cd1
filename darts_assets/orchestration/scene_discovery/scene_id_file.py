"""Files of scene ids: a JSON list, on a path or on the store's S3."""

import json
from collections.abc import Sequence

import obstore

from darts_assets.errors import SettingsError, StoreError
from darts_assets.orchestration.core.resources import Store
from darts_assets.stores.location import StoreLocation


def read_ids(href: str, store: Store) -> list[str]:
    """The ids in a JSON file.

    Raises:
        SettingsError: if there is no such file, or it is not a list of ids.
    """
    folder, name = _file("ids_file", href, store)
    try:
        if folder.is_local and not (folder.path / name).is_file():
            raise FileNotFoundError  # asking must not create the folder
        ids = json.loads(bytes(obstore.get(folder.objects(), name).bytes()))
    except FileNotFoundError:
        raise SettingsError(f"ids_file {href}: there is no such file") from None
    except ValueError as error:
        raise SettingsError(f"ids_file {href} is not JSON: {error}") from None
    if not (isinstance(ids, list) and ids and all(isinstance(scene_id, str) for scene_id in ids)):
        raise SettingsError(f"ids_file {href}: a list of scene ids was expected, at least one")
    return ids


def write_ids(href: str, scene_ids: Sequence[str], store: Store) -> None:
    """Write ids to a JSON file, in one step.

    Raises:
        SettingsError: if the place makes no sense.
    """
    folder, name = _file("write_ids", href, store)
    obstore.put(folder.objects(), name, json.dumps(list(scene_ids), indent=0).encode())


def _file(what: str, href: str, store: Store) -> tuple[StoreLocation, str]:
    """Folder and name of a file; S3 is the store's."""
    parent, _, name = href.rpartition("/")
    try:
        folder = StoreLocation(parent or ("/" if href.startswith("/") else "."), store.endpoint, store.region)
    except StoreError as error:
        raise SettingsError(f"{what}: {error}") from None
    if not name:
        raise SettingsError(f"{what} {href}: a file was expected")
    return folder, name
