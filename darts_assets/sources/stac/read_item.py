"""Reader of a single STAC item."""

import json
from typing import Any

from pystac.utils import make_absolute_href

from darts_assets.errors import SceneError, TooLargeError
from darts_assets.remote.byte_reader import S3Options, is_remote, local_path, read_bytes, shown


def read_item(href: str, s3: S3Options | None = None) -> dict[str, Any]:
    """A STAC item with absolute asset hrefs; relative ones are resolved against the item's own.

    Args:
        href: a path, `http(s)://...` or `s3://bucket/key`.
        s3: access to `s3://`.

    Raises:
        SceneError: if the file does not exist, or is not a single STAC item.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    name = shown(href)
    try:
        content = read_bytes(href, s3)
    except FileNotFoundError:
        raise SceneError(f"{name}: there is no such file; a STAC item (JSON) was expected") from None
    except TooLargeError as error:
        raise SceneError(f"{error}; a STAC item was expected") from None
    try:
        item = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SceneError(f"{name} is not a STAC item: it is not JSON ({error})") from error
    _check_is_item(item, name)
    base = href if is_remote(href) else str(local_path(href).absolute())
    for asset in item["assets"].values():
        asset["href"] = make_absolute_href(asset["href"], base, start_is_dir=False)
    return item


def _check_is_item(item: object, name: str) -> None:
    if not isinstance(item, dict):
        raise SceneError(f"{name} is not a STAC item: its top level is a {type(item).__name__}, not an object")
    if item.get("type") == "FeatureCollection":
        count = len(item.get("features", ()))
        raise SceneError(f"{name} is a collection of {count} items; give one item (save a feature in its own file)")
    if item.get("type") != "Feature" or not isinstance(item.get("assets"), dict):
        raise SceneError(f"{name} is not a STAC item: type 'Feature' with assets expected, got {item.get('type')!r}")
    for key, asset in item["assets"].items():
        if not isinstance(asset, dict) or not isinstance(asset.get("href"), str):
            raise SceneError(f"{name} is not a STAC item: asset {key} has no href")
