"""Writers of one place that stop before each access to the store, so that a test decides who goes on, and how it ends.

Accesses end in one of these ways:

| fault | object store | path |
|---|---|---|
| `none` | as it should | as it should |
| `lost` | a PUT takes effect, its response is lost; a GET is cut short | - |
| `failed` | a PUT or GET fails without effect | - |
| `late` | the response to a PUT does not arrive, and it takes effect at any time later, or never | - |
| `killed` | the writer is killed before it | the writer is killed before it |
| `killed after` | the writer is killed after it | the writer is killed after it |
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError
from obstore.store import LocalStore, MemoryStore

from darts_assets.errors import StoreError
from darts_assets.remote import retry
from darts_assets.stores import pointer, publish
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place, Retention

FAULTS = ("none", "none", "none", "lost", "failed", "late", "killed", "killed after")


class Killed(BaseException):
    """Ends a killed writer's thread; whatever it does on the way out does not reach the store."""


class Writer(threading.Thread):
    """A writer that waits for its turn before each access.

    Attributes:
        outcome: "success", the error, or None while it works or after it was killed.
        problem: an error that it must not have.
        version: id of its version, once it has one.
        over: whether it has ended.
        inside: whether it is making an access, of which smaller ones are parts.
    """

    def __init__(self, work: "Callable[[Writer], None]") -> None:
        super().__init__(daemon=True)
        self._work = work
        self._turn, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self._fault, self._killed = "none", False
        self.outcome: str | StoreError | None = None
        self.problem: BaseException | None = None
        self.version = ""
        self.over = False
        self.inside = False

    def run(self) -> None:
        try:
            self._work(self)
            self.outcome = "success"
        except Killed:
            pass
        except StoreError as error:
            self.outcome = error
        except BaseException as error:
            self.problem = error
        finally:
            self.over = True
            self._waits.release()

    def go_on(self, fault: str) -> None:
        """Let it make one access, which ends as `fault` says, and wait until it stops before the next."""
        self._fault = fault
        self._turn.release()
        self.wait()

    def wait(self) -> None:
        """Wait until it stops before an access, or is over."""
        assert self._waits.acquire(timeout=60), "the writer hangs"
        if self.problem:
            raise self.problem

    def stop(self) -> str:
        """Wait for the turn; called by the writer's thread."""
        if not self._killed:
            self._waits.release()
            self._turn.acquire()
            self._killed = self._fault == "killed"
        if self._killed:
            raise Killed
        return self._fault

    def kill(self) -> None:
        self._killed = True
        raise Killed


def access(make: Callable[[], Any], late: Callable[[Callable[[], Any]], None] | None = None) -> Any:
    """Make an access to the store in the way that the test wants."""
    writer = threading.current_thread()
    if not isinstance(writer, Writer) or writer.inside:
        return make()
    fault = writer.stop()
    writer.inside = True
    try:
        return _made(make, late, fault, writer)
    finally:
        writer.inside = False


def _made(make: Callable[[], Any], late: Callable[[Callable[[], Any]], None] | None, fault: str, writer: Writer) -> Any:
    if fault == "killed after":
        make()
        writer.kill()
    if late is None or fault in ("none", "killed"):
        return make()
    if fault == "lost":
        make()
    if fault == "late":
        late(make)
    raise GenericError(f"injected: {fault}")


@dataclass
class Bench:
    """A place, its writers, and what is known of it.

    Attributes:
        root: a folder, None for an object store in memory.
        late: PUTs that are still under way.
        seen: versions that were published, in order.
        has_grace: whether replaced versions are kept for a time that does not end here. Otherwise they are due at once,
            except those that end in an even digit, which something refers to.
    """

    root: Path | None
    patch: pytest.MonkeyPatch
    has_grace: bool = False
    writers: list[Writer] = field(default_factory=list)
    late: list[Callable[[], Any]] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        memory = MemoryStore()
        self.location = StoreLocation(str(self.root / "place") if self.root else "s3://memory/place")
        self.store: Any = LocalStore(str(self.location.path), mkdir=True) if self.root else memory
        grace = timedelta(hours=1 if self.has_grace else 0)
        self.place = Place(self.location, Retention(grace, self.referenced))
        patch = self.patch
        patch.setattr(retry, "BACKOFF", (0.0, 0.0))
        patch.setattr(publish, "ensure_safe", lambda location: None)
        numbers = count()  # ids decide what is referred to, and must be the same when an example is repeated
        patch.setattr(
            publish, "uuid", SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"{next(numbers):08x}{0:024x}"))
        )
        patch.setattr(publish.time, "sleep", lambda seconds: None)
        patch.setattr(publish, "_STALLED", timedelta(0))  # collections do not wait for writers
        if not self.root:
            patch.setattr(StoreLocation, "objects", lambda location: memory)
            patch.setattr(pointer, "obstore", _Faulty(self.late.append))
            patch.setattr(Place, "_remove", _remove_from(memory))
        for owner, name in ((pointer.Pointer, "_read_file"), (pointer.Pointer, "_replace_file"),
                            (Place, "_names"), (Place, "_remove")):  # fmt: skip
            patch.setattr(owner, name, _stopping(getattr(owner, name)))

    def begin(self, keeps: bool) -> None:
        """Another writer, of both parts or of `b` beside the current `a`."""
        self.writers.append(writer := Writer(self._writing(keeps)))
        writer.start()
        writer.wait()

    def _writing(self, keeps: bool) -> Callable[[Writer], None]:
        def work(writer: Writer) -> None:
            before = self.place.manifest() if keeps else None
            kept = {"a": before.contents["a"]} if before else {}
            with self.place.new_version() as version:
                writer.version = version.id
                access(lambda: obstore.put(self.store, f"{version.id}/data", version.id.encode()))
                contents = {"a": version.id, "b": version.id} | kept
                self.place.publish(version, contents, {"by": version.id})

        return work

    def collect(self) -> None:
        """Another process that collects."""
        self.writers.append(writer := Writer(lambda writer: self.place.collect()))
        writer.start()
        writer.wait()

    def referenced(self) -> set[str]:
        """The versions that something refers to."""
        return {writer.version for writer in self.writers if writer.version and writer.version[-1] in "02468ace"}

    def kept(self) -> set[str]:
        """The versions that must be readable."""
        published = {version for contents in self.seen for version in contents.values()}
        return published if self.has_grace else published & self.referenced() | set(self.seen[-1].values())

    def active(self) -> list[Writer]:
        return [writer for writer in self.writers if not writer.over]

    def check(self) -> Manifest | None:
        """What a reader finds is what was published last, and complete."""
        manifest = self.place.manifest()
        if manifest is None:
            assert not self.seen, f"nothing is published any more; it was {self.seen[-1]}"
        elif not self.seen or self.seen[-1] != manifest.contents:
            assert manifest.contents not in self.seen, "an old version has come back"
            self.seen.append(manifest.contents)
        if manifest:
            assert manifest.contents["b"] == manifest.metadata["by"]
            for version in self.kept():
                assert bytes(obstore.get(self.store, f"{version}/data").bytes()).decode() == version
        published = {contents["b"] for contents in self.seen}
        for writer in self.writers:
            is_success = writer.version and writer.outcome == "success"
            assert not is_success or writer.version in published, "a success that nobody could read"
        return manifest

    def end(self) -> None:
        """All writers end; then one that is left alone publishes, and nothing of the others is left."""
        for writer in self.active():
            writer.go_on("killed")
            assert writer.over
        self.check()
        self.begin(keeps=False)
        (last,) = self.active()
        while not last.over:
            last.go_on("none")
            self.check()
        assert last.outcome == "success"
        for put in self.late:  # arrives when nobody thinks of it any more
            with pytest.raises(Exception, match=r"."):
                put()
        assert self.check() is not None
        self.collect()
        (last,) = self.active()
        while not last.over:
            last.go_on("none")
        assert self.check() is not None
        names = {key.partition("/")[0] for batch in obstore.list(self.store) for key in (e["path"] for e in batch)}
        assert {name for name in names if name[0].isdigit()} == self.kept()


class _Faulty:
    """The functions of obstore that a pointer uses."""

    def __init__(self, late: Callable[[Callable[[], Any]], None]) -> None:
        self._late = late

    def get(self, *arguments: Any) -> Any:
        return access(lambda: obstore.get(*arguments), lambda make: None)

    def put(self, *arguments: Any, **options: Any) -> Any:
        return access(lambda: obstore.put(*arguments, **options), self._late)


def _stopping(method: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: access(lambda: method(*arguments))


def _remove_from(store: MemoryStore) -> Callable[..., None]:
    def remove(place: Place, name: str) -> None:
        for batch in obstore.list(store, f"{name}/"):
            obstore.delete(store, [entry["path"] for entry in batch])

    return remove
