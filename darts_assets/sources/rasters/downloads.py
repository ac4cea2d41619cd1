"""Copies of a scene's remote files on disk, for as long as they are read.

JPEG 2000 files are copied: they are read whole anyway, by one request each instead of hundreds, can be checked whole,
and GDAL cannot read them from S3 with keys (see `gdal`). GeoTIFFs stay where they are, and are read by ranges.

Copies lie in a folder of their own among the system's temporary files (`TMPDIR`): those of one scene, up to 0.8 GB.
Its lock is held as long as they are in use, and is let go by the system when a process dies: what killed processes have
left behind is removed by the next one.
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
from darts_assets.remote.byte_source import ByteSource, S3Options, is_remote
from darts_assets.scene import Scene, SceneBand
from darts_assets.sources.rasters.integrity import by_file, described, look_up
from darts_assets.sources.rasters.jpeg2000 import is_jpeg2000

logger = logging.getLogger(__name__)

PREFIX = "darts-assets-scene-"
_MEGA = 1e6


class Copies:
    """Files on disk that vanish with this object.

    Attributes:
        opened: href -> the file, or its copy, of all files that are remote.
    """

    def __init__(self, opened: Mapping[str, ByteSource], folder: "_Folder | None" = None) -> None:
        self.opened = opened
        self._folder = folder

    def place(self, href: str) -> str:
        """Where to read a file: its copy, or itself."""
        return self.opened[href].href if href in self.opened else href

    @classmethod
    def of(cls, scene: Scene, bands: Iterable[str], s3: S3Options) -> Self:
        """Copy the remote JPEG 2000 files of some bands, at most `s3.connections` at a time.

        Raises:
            RasterError: if one is missing, or has another size than the item promises.
            SourceUnavailableError: if a service does not answer after bounded retries.
            SettingsError: if a service refuses the keys, or there is no room for the copies.
        """
        files = {bands[0].href: bands for bands in by_file(scene, bands) if is_remote(bands[0].href)}
        with ThreadPoolExecutor(s3.connections) as pool:
            looked = pool.map(lambda bands: look_up(scene, bands, s3), files.values())
            opened = {source.href: source for source in looked}
        wanted = {href: source for href, source in opened.items() if is_jpeg2000(source)}
        if not wanted:
            return cls(opened)
        folder = _Folder()
        _check_room(scene, folder.path, sum(source.size for source in wanted.values()))
        paths = {href: str(folder.path / f"{number}.jp2") for number, href in enumerate(wanted)}
        megabytes = sum(source.size for source in wanted.values()) / _MEGA
        done = 0.0
        with ThreadPoolExecutor(s3.connections) as pool:
            jobs = {pool.submit(_save, scene, files[href], wanted[href], paths[href]): href for href in wanted}
            try:
                for number, job in enumerate(as_completed(jobs), start=1):
                    job.result()
                    done += wanted[jobs[job]].size / _MEGA
                    logger.info(
                        f"scene {scene.id}: {number} of {len(jobs)} files downloaded, {done:.0f} of {megabytes:.0f} MB"
                    )
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        return cls({**opened, **{href: ByteSource(path) for href, path in paths.items()}}, folder)


class _Folder:
    """A temporary folder that is removed with this object, at the end of the process, or by the next process."""

    def __init__(self) -> None:
        place = Path(tempfile.gettempdir())
        _remove_stale(place)
        self.path = place / f"{PREFIX}{uuid4().hex}"
        # Locked before there is a folder, so that nobody takes it for one that was left behind.
        lock = _lock_of(self.path)
        lock.acquire()
        self.path.mkdir(mode=0o700)
        weakref.finalize(self, _remove, self.path, lock)


def _lock_of(folder: Path) -> FileLock:
    # Not of a thread: the last one to use the folder may be any.
    return FileLock(folder.with_suffix(".lock"), thread_local=False)


def _remove(folder: Path, lock: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)
    lock.release()


def _remove_stale(place: Path) -> None:
    for path in place.glob(f"{PREFIX}*.lock"):
        folder = path.with_suffix("")
        lock = _lock_of(folder)
        # In use, or another user's.
        with suppress(Timeout, OSError):
            lock.acquire(timeout=0)
            logger.info(f"removing {folder}, which a process has left behind")
            _remove(folder, lock)


def _save(scene: Scene, bands: list[SceneBand], source: ByteSource, path: str) -> None:
    where = described(scene, bands[0])
    try:
        source.save(path)
    except FileNotFoundError:
        raise RasterError(f"{where}: there is no such file any more") from None
    except SourceUnavailableError as error:
        raise SourceUnavailableError(f"{where}: {error}") from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SettingsError(f"{where}: the disk of {tempfile.gettempdir()} is full (another one: TMPDIR)") from None


def _check_room(scene: Scene, folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise SettingsError(
            f"scene {scene.id}: its files need {size / _MEGA:.0f} MB for a while, {tempfile.gettempdir()} has "
            f"{free / _MEGA:.0f} MB left (another place: TMPDIR)"
        )
