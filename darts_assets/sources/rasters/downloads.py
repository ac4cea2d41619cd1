"""Temporary copies of a scene's remote files.

JPEG 2000 files are downloaded: they are read completely anyway, one request replaces hundreds, complete files can be
verified, and GDAL cannot read them from S3 with keys (see `odc_driver`). GeoTIFFs are read remotely, by ranges.

The copies of a scene (up to 0.8 GB) are in a folder below the system's temporary folder (`TMPDIR`). A lock is held
while they are in use. The system releases it when a process dies, and the next process then removes the folder.
"""

import errno
import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Self
from uuid import uuid4

from filelock import FileLock, Timeout

from darts_assets.errors import RasterError, SettingsError, SourceUnavailableError
from darts_assets.remote.byte_reader import ByteReader, S3Options, is_remote
from darts_assets.remote.zip_members import ZipMember
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.rasters.integrity import by_file, described, open_file
from darts_assets.sources.rasters.jpeg2000 import is_jpeg2000

logger = logging.getLogger(__name__)

PREFIX = "darts-assets-scene-"
_MEGA = 1e6


class Copies:
    """Copies of remote files, deleted with this object.

    Attributes:
        opened: href of each remote file -> the opened file, or its copy.
    """

    def __init__(self, opened: Mapping[str, ByteReader], folder: "_Folder | None" = None) -> None:
        self.opened = opened
        self._folder = folder

    def href(self, href: str) -> str:
        """The href of a file's copy, or of the file if it was not copied."""
        return self.opened[href].href if href in self.opened else href

    @classmethod
    def of(cls, scene: Scene, bands: Iterable[str], s3: S3Options) -> Self:
        """Copy the remote JPEG 2000 files of some bands, at most `s3.connections` at a time.

        Raises:
            RasterError: if a file is missing, or its size differs from the item's.
            SourceUnavailableError: if a service does not answer after bounded retries.
            SettingsError: if a service refuses the keys, or the disk is too small for the copies.
        """
        files = {bands[0].href: bands for bands in by_file(scene, bands) if is_remote(bands[0].href)}
        with ThreadPoolExecutor(s3.connections) as pool:
            readers = pool.map(lambda bands: open_file(scene, bands, s3), files.values())
            opened = {reader.href: reader for reader in readers}
        remote = {
            href: reader for href, reader in opened.items() if isinstance(reader, ZipMember) or is_jpeg2000(reader)
        }
        if not remote:
            return cls(opened)
        folder = _Folder()
        _check_room(scene, folder.path, sum(reader.size for reader in remote.values()))
        paths = {href: str(folder.path / f"{number}.jp2") for number, href in enumerate(remote)}
        megabytes = sum(reader.size for reader in remote.values()) / _MEGA
        done = 0.0
        with ThreadPoolExecutor(s3.connections) as pool:
            jobs = {pool.submit(_save, scene, files[href], remote[href], paths[href]): href for href in remote}
            try:
                for number, job in enumerate(as_completed(jobs), start=1):
                    job.result()
                    done += remote[jobs[job]].size / _MEGA
                    logger.info(
                        f"scene {scene.id}: {number} of {len(jobs)} files downloaded, {done:.0f} of {megabytes:.0f} MB"
                    )
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return cls({**opened, **{href: ByteReader(path) for href, path in paths.items()}}, folder)


class _Folder:
    """A temporary folder that is removed with this object, at the end of the process, or by the next process."""

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        _remove_stale(parent)
        self.path = parent / f"{PREFIX}{uuid4().hex}"
        # Locked before the folder exists, so that no other process removes it as stale.
        lock = _lock_of(self.path)
        lock.acquire()
        self.path.mkdir(mode=0o700)
        weakref.finalize(self, _remove, self.path, lock)


def _lock_of(folder: Path) -> FileLock:
    # Not bound to a thread: any of them may be the last to use the folder.
    return FileLock(folder.with_suffix(".lock"), thread_local=False)


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)
    lock.release()


def _remove_stale(parent: Path) -> None:
    for path in parent.glob(f"{PREFIX}*.lock"):
        folder = path.with_suffix("")
        lock = _lock_of(folder)
        with suppress(Timeout, OSError):  # in use, or another user's
            lock.acquire(timeout=0)
            logger.info(f"removing {folder}, left behind by a process that ended")
            _remove(folder, lock)


def _save(scene: Scene, bands: list[SceneBand], reader: ByteReader, path: str) -> None:
    where = described(scene, bands[0])
    try:
        reader.save(path)
    except FileNotFoundError:
        raise RasterError(f"{where}: there is no such file any more") from None
    except SourceUnavailableError as error:
        raise SourceUnavailableError(f"{where}: {error}", unreachable=error.unreachable) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SettingsError(f"{where}: the disk of {tempfile.gettempdir()} is full; set TMPDIR to another") from None


def _check_room(scene: Scene, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise SettingsError(
            f"scene {scene.id}: temporary copies of its files need {size / _MEGA:.0f} MB, {tempfile.gettempdir()} has "
            f"{free / _MEGA:.0f} MB left; set TMPDIR to another disk"
        )
