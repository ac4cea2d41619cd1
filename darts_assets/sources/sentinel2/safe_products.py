"""ESA's Sentinel-2 products in the SAFE format, in folders and zip archives, on a disk and on S3.

A product is found by its `MTD_MSIL2A.xml`. Of the paths in its files none is opened: metadata and bands are taken from
the listing of the product, by the names that the format prescribes
(https://sentiwiki.copernicus.eu/web/s2-products, SAFE_COMPACT):

    S2A_MSIL2A_..._T01WCP_....SAFE/
        MTD_MSIL2A.xml                                                    of the product
        manifest.safe                                                     checksums
        GRANULE/L2A_T01WCP_A041826_20230625T234624/MTD_TL.xml             of the tile
        GRANULE/L2A_T01WCP_.../IMG_DATA/R10m/T01WCP_..._B02_10m.jp2       pixels
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from darts_assets.errors import RasterError, SceneError, SettingsError, TooLargeError
from darts_assets.remote.byte_reader import S3Options, is_remote, local_path, read_bytes, shown
from darts_assets.remote.zip_members import ZipArchive
from darts_assets.sources.folders import absolute, list_files
from darts_assets.sources.sentinel2.safe_item import SafeFile, safe_item

PRODUCT_METADATA = "MTD_MSIL2A.xml"
_METADATA = re.compile(r"(?:(.+)/)?MTD_MSI(L\w+)\.xml")
_SAFE_FOLDER = re.compile(r".*?[^/]\.SAFE(?=/|$)")
_ARCHIVE = re.compile(r"(?:.*/)?(?:[^/]+\.SAFE|S2[A-Z]_MSIL[^/]*)\.zip", re.IGNORECASE)
_BAND = re.compile(r"GRANULE/([^/]+)/IMG_DATA/R(?:10|20|60)m/[^/]*_(B\d[\dA]|SCL)_(\d\d)m\.jp2")
_TILE_METADATA = re.compile(r"GRANULE/([^/]+)/MTD_TL\.xml")
_SHOWN = 4


@dataclass(frozen=True)
class _Product:
    """The files of a product.

    Attributes:
        href: of its folder; members of an archive have hrefs as in `zip_members`.
        level: such as `L2A`.
        sizes: path in the product -> bytes.
        archive: the archive that contains it.
    """

    href: str
    level: str
    sizes: Mapping[str, int]
    archive: ZipArchive | None = None

    @property
    def name(self) -> str:
        return shown(self.href)

    def read(self, path: str, s3: S3Options) -> bytes:
        """The content of a document; raises SceneError if there is none or it is too large."""
        if path not in self.sizes:
            raise SceneError(f"{self.name}: {path} is missing; the product is not complete")
        href = f"{self.href}/{path}"
        try:
            if self.archive is not None:
                return self.archive.member(href.partition("!/")[2]).read_all()
            self.check_inside(path)
            return read_bytes(href, s3)
        except FileNotFoundError:
            raise SceneError(f"{shown(href)}: there is no such file any more") from None
        except (TooLargeError, RasterError) as error:
            raise SceneError(f"{error}; metadata of a SAFE product were expected") from None

    def check_inside(self, path: str) -> None:
        """Raise SceneError if a file of a product on a disk is a link that leads out of the product."""
        if self.archive is not None or is_remote(self.href):
            return
        root = os.path.realpath(self.href)
        if not os.path.realpath(f"{self.href}/{path}").startswith(f"{root}{os.sep}"):
            raise SceneError(f"{self.name}: {path} is a link to a file outside of the product, which is not read")


def is_safe_location(href: str, s3: S3Options) -> bool:
    """Whether an href is a SAFE product or archive, or a folder (`s3://` with a trailing slash) that contains some.

    Raises:
        SettingsError, SourceUnavailableError: see `list_files`.
    """
    if (path := href.rstrip("/")).lower().endswith(".zip") or _SAFE_FOLDER.fullmatch(path):
        return True
    if not is_folder(href):
        return False
    root = absolute(href)
    files = list_files(root, s3, [])
    return any(
        _SAFE_FOLDER.match(file.href) or _ARCHIVE.fullmatch(file.href) or _METADATA.fullmatch(file.name)
        for file in files
    )


def is_folder(href: str) -> bool:
    """Whether a location is a folder and not a file; on S3, by its trailing slash."""
    return href.endswith("/") or (not is_remote(href) and local_path(href).expanduser().is_dir())


def read_safe_items(href: str, s3: S3Options) -> list[dict[str, Any]]:
    """The STAC items of a SAFE product, of an archive, or of all that a folder contains, ordered by their names.

    Args:
        href: folder or zip archive, on a disk or on S3.
        s3: access to `s3://`.

    Raises:
        SceneError: if there is none, or any of them cannot be used; the message lists all problems.
        SettingsError, SourceUnavailableError: see `list_files`.
    """
    items: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for product in _products(href, s3, problems):
        try:
            item = _item(product, s3)
        except SceneError as error:
            problems.append(str(error))
            continue
        if item["id"] in items:
            problems.append(f"{product.name} has the id of another product, {item['id']}; keep one of them")
        items[item["id"]] = item
    if not items and not problems:
        problems.append(
            f"{shown(href)} contains no SAFE product: a folder or an archive with {PRODUCT_METADATA} was expected"
        )
    if problems:
        more = f"; and {len(problems) - _SHOWN} more problems" if len(problems) > _SHOWN else ""
        raise SceneError("; ".join(problems[:_SHOWN]) + more)
    return [items[name] for name in sorted(items)]


def _products(href: str, s3: S3Options, problems: list[str]) -> Iterator[_Product]:
    if href.rstrip("/").lower().endswith(".zip"):
        yield from _in_archive(_absolute_file(href), s3, problems)
        return
    root = absolute(href)
    sizes: dict[str, int] = {}
    for file in list_files(root, s3, problems):
        if _ARCHIVE.fullmatch(file.href):
            yield from _in_archive(file.href, s3, problems)
        else:
            sizes[file.href] = file.size
    yield from _grouped(sizes, None, problems)


def _absolute_file(href: str) -> str:
    if is_remote(href):
        return href
    path = local_path(href).expanduser().absolute()
    if not path.is_file():
        raise SettingsError(f"{path}: there is no such file")
    return str(path)


def _in_archive(href: str, s3: S3Options, problems: list[str]) -> Iterator[_Product]:
    try:
        archive = ZipArchive(href, s3)
    except FileNotFoundError:
        problems.append(f"{shown(href)}: there is no such file")
        return
    except RasterError as error:
        problems.append(str(error))
        return
    sizes = archive.sizes
    if outside := [name for name in sizes if name.startswith("/") or ".." in name.split("/")]:
        problems.append(f"{shown(href)} has a file with a path outside of the archive, {outside[0]!r}; it is not read")
        return
    products = list(_grouped({f"{href}!/{name}": size for name, size in sizes.items()}, archive, problems))
    nested = [name for name in sizes if name.lower().endswith(".zip")]
    if not products and nested:
        problems.append(
            f"{shown(href)} contains another archive, {nested[0]}, instead of a product; take that archive out of it"
        )
    elif not products:
        problems.append(f"{shown(href)} contains no SAFE product: {PRODUCT_METADATA} was expected in it")
    yield from products


def _grouped(sizes: Mapping[str, int], archive: ZipArchive | None, problems: list[str]) -> Iterator[_Product]:
    """The products among some files; SAFE folders without metadata are problems."""
    roots: dict[str, str] = {}
    folders: set[str] = set()
    for href in sizes:
        if match := _METADATA.fullmatch(href):
            roots[match[1] or ""] = match[2]
        elif match := _SAFE_FOLDER.match(href):
            folders.add(match[0])
    for folder in sorted(folders):
        if not any(root == folder or root.startswith(f"{folder}/") for root in roots):
            problems.append(f"{shown(folder)}: {PRODUCT_METADATA} is missing; the product is not complete")
    grouped: dict[str, dict[str, int]] = {root: {} for root in roots}
    for href, size in sizes.items():
        parent = href
        while parent := parent.rpartition("/")[0]:
            if parent in grouped:
                grouped[parent][href[len(parent) + 1 :]] = size
                break
    for root in sorted(roots):
        yield _Product(root, roots[root], grouped[root], archive)


def _item(product: _Product, s3: S3Options) -> dict[str, Any]:
    if product.level != "L2A":
        raise SceneError(
            f"{product.name} is Level-{product.level[1:]}: reflectance at the surface, Level-2A, was expected"
        )
    granules = sorted({match[1] for path in product.sizes if (match := _TILE_METADATA.fullmatch(path))})
    if len(granules) != 1:
        raise SceneError(f"{product.name} has {len(granules)} granules with MTD_TL.xml; one tile was expected")
    files: dict[tuple[str, int], SafeFile] = {}
    for path, size in product.sizes.items():
        if (match := _BAND.fullmatch(path)) and match[1] == granules[0]:
            product.check_inside(path)
            files[match[2], int(match[3])] = SafeFile(path, f"{product.href}/{path}", size)
    manifest = product.read("manifest.safe", s3) if "manifest.safe" in product.sizes else None
    return safe_item(
        product.name,
        product.read(PRODUCT_METADATA, s3),
        product.read(f"GRANULE/{granules[0]}/MTD_TL.xml", s3),
        manifest,
        files,
    )
