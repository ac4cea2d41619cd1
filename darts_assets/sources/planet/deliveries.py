"""Which files belong to which image, and whether all of them have arrived.

Files belong to the image whose id is the name of a folder that they are in (`ID/...`, also deeper, as in
`ID/analytic_sr_udm2/...`); elsewhere to the one whose id their own name begins with, as in the orders that Planet
delivers with all images in one folder (`PSScene/ID_3B_AnalyticMS_SR.tif`).
"""

import datetime as dt
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from darts_assets.errors import SceneError
from darts_assets.remote.byte_reader import S3Options, shown
from darts_assets.sources.planet.folders import File, absolute, list_files
from darts_assets.sources.planet.manifest import NAME, Promise, read_manifest
from darts_assets.sources.planet.names import EXPECTED, ImageId, Kind, image_id, is_id, kind_of

_SHOWN = 4
_KEY = tuple[str, str]  # id, folder


@dataclass(frozen=True)
class Delivery:
    """The files of one image.

    Attributes:
        id: of the image.
        folder: that they are in or below.
        files: what is there.
        promised: what a manifest says of them; none where there is no manifest.
    """

    id: ImageId
    folder: str
    files: tuple[File, ...]
    promised: tuple[Promise, ...] = ()

    def __str__(self) -> str:
        return f"Planet image {self.id.id} in {shown(self.folder)}"

    @cached_property
    def signature(self) -> str:
        """Changes when a file comes, goes, grows or is written again."""
        said = sorted((file.href, file.size, file.modified.isoformat()) for file in self.files)
        return hashlib.sha256(repr((said, self.promised)).encode()).hexdigest()[:16]

    @property
    def modified(self) -> dt.datetime:
        """When something was written last."""
        return max((file.modified for file in self.files), default=dt.datetime.min.replace(tzinfo=dt.UTC))

    @property
    def wanting(self) -> str:
        """What its manifest promises and is not there, in words; "" if there is nothing, or no manifest."""
        sizes = {file.href: file.size for file in self.files}
        said = []
        for file in self.promised:
            name = file.href.rpartition("/")[2]
            if file.href not in sizes:
                said.append(f"{name} is missing")
            elif sizes[file.href] != file.size:
                said.append(f"{name} has {sizes[file.href]} of {file.size} bytes")
        return ", ".join(said[:_SHOWN]) + (f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else "")

    def check_complete(self) -> None:
        """Raise SceneError if something is wanting."""
        if wanting := self.wanting:
            raise SceneError(f"{self} is not complete, by its {NAME}: {wanting}")

    def of_kind(self, kind: Kind) -> list[File]:
        """Its files of a kind, by their names."""
        return sorted((file for file in self.files if kind_of(file.name) == kind), key=lambda file: file.href)

    def checksum(self, file: File) -> str | None:
        """The checksum that its manifest promises for a file."""
        return next((promise.checksum for promise in self.promised if promise.href == file.href), None)


@dataclass
class Deliveries:
    """What there is below a folder.

    Attributes:
        found: images, by the time that their ids tell; each has an id of its own.
        problems: what could not be understood, a sentence each.
    """

    found: list[Delivery] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_deliveries(root: str, s3: S3Options) -> Deliveries:
    """The images below a folder, complete or not; no raster is opened.

    Raises:
        SettingsError: if there is no such folder, or S3 refuses the keys.
        SourceUnavailableError: if the service does not answer after bounded retries.
    """
    result = Deliveries()
    root = absolute(root)
    files: dict[_KEY, list[File]] = {}
    strange: dict[str, list[str]] = {}
    manifests = []
    for file in list_files(root, s3, result.problems):
        key = _key(root, file.href)
        if file.name == NAME:
            manifests.append(file.href)
        elif key is not None:
            files.setdefault(key, []).append(file)
        elif kind_of(file.name):
            strange.setdefault(file.folder, []).append(file.name)
    promised, unreadable = _promises(root, sorted(manifests), s3, result.problems)
    for folder, names in sorted(strange.items()):
        result.problems.append(
            f"folder {shown(folder)}: neither its name nor those of its files ({_some(names)}) are or begin with the "
            f"id of a Planet image; expected {EXPECTED}"
        )
    for key in sorted({*files, *promised}):
        if any(f"{key[1]}/".startswith(f"{folder}/") for folder in unreadable):
            continue  # it waits for the manifest, of which a problem tells
        found = image_id(key[0])
        assert found is not None
        result.found.append(Delivery(found, key[1], tuple(files.get(key, ())), tuple(promised.get(key, ()))))
    result.found.sort(key=lambda delivery: (delivery.id.time, delivery.id.id))
    return result


def without_twins(deliveries: Iterable[Delivery], problems: list[str]) -> list[Delivery]:
    """Deliveries whose id no other one has; of the others, problems tell."""
    by_id: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        same = by_id.setdefault(delivery.id.id, [])
        if delivery.folder not in [other.folder for other in same]:  # else below two of the folders that were given
            same.append(delivery)
    for image, same in by_id.items():
        if len(same) > 1:
            folders = ", ".join(shown(delivery.folder) for delivery in same)
            problems.append(f"Planet image {image} is in {len(same)} folders, and none is taken: {folders}")
    return [same[0] for same in by_id.values() if len(same) == 1]


def _key(root: str, href: str) -> _KEY | None:
    """The image that a file belongs to, and where that image is."""
    below = href.removeprefix(f"{root}/")
    parts = below.split("/")[:-1] if below != href else []
    # From the file up to the root, whose own name counts too.
    for depth in range(len(parts), -1, -1):
        folder = "/".join([root, *parts[:depth]])
        if is_id(name := folder.rpartition("/")[2]):
            return name, folder
    folder, _, name = href.rpartition("/")
    found = image_id(name)
    return (found.id, folder) if found else None


def _promises(
    root: str, manifests: Iterable[str], s3: S3Options, problems: list[str]
) -> tuple[dict[_KEY, list[Promise]], list[str]]:
    """What manifests promise, by image, and the folders of those that cannot be read."""
    promised: dict[_KEY, list[Promise]] = {}
    unreadable = []
    for href in manifests:
        try:
            promises = read_manifest(href, s3)
        except SceneError as error:
            problems.append(f"{error}; the images below its folder wait for it")
            unreadable.append(href.rpartition("/")[0])
            continue
        for promise in promises:
            if key := _key(root, promise.href):
                promised.setdefault(key, []).append(promise)
    return promised, unreadable


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
