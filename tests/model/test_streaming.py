"""Reading ahead, computing ahead, and how both end."""

import threading
from collections.abc import Callable, Iterable

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr

from darts_assets.bands import FEATURES
from darts_assets.errors import NotReadableError, RasterError, SourceUnavailableError
from darts_assets.model import CheckpointHeader, SegmentParameters
from darts_assets.model.networks import load_networks
from darts_assets.model.segment import segment
from darts_assets.tiles import WINDOW_ROWS

CPU = torch.device("cpu")
Noise = Callable[..., xr.Dataset]


def parameters(**changes: object) -> SegmentParameters:
    return SegmentParameters(**{"patch_size": 128, "overlap": 32, "batch_size": 4, "device": "cpu", **changes})


def working() -> list[str]:
    """The threads of running segmentations."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("ahead", "read-band"))]


def watched(tile: xr.Dataset, names: Iterable[str], look: Callable[[str, int], None]) -> xr.Dataset:
    """A lazy tile that calls `look` with band and chunk row at each chunk that is read, stored in chunks of 512."""

    def lazy(name: str) -> da.Array:
        chunks = da.from_array(tile[name].values, chunks=(WINDOW_ROWS, -1))
        return chunks.map_blocks(
            lambda chunk, block_info: (look(name, block_info[0]["chunk-location"][0]), chunk)[1],
            dtype=chunks.dtype, meta=np.empty((0, 0), chunks.dtype),
        )  # fmt: skip

    return tile.assign({name: (("y", "x"), lazy(name)) for name in names})


@pytest.mark.parametrize("padding", [{}, {"reflection": 20}, {"edge_padding": False}])
def test_each_stored_chunk_is_read_once_and_one_ahead(
    noise: Noise, small: CheckpointHeader, padding: dict[str, object]
) -> None:
    tile, read = noise(5 * WINDOW_ROWS, 130), []
    lazy = watched(tile, FEATURES, lambda name, row: read.append((name, row)))
    windows = segment(lazy, [small], parameters(**padding)).windows
    assert read == []
    first = next(windows)
    # Held are the row of patches that is computed meanwhile, and one block more.
    assert {row for _, row in read} <= {0, 1}
    rest = list(windows)
    assert sum(window.sizes["y"] for window in [first, *rest]) == 5 * WINDOW_ROWS
    assert sorted(read) == sorted((name, row) for name in small.bands for row in range(5))
    whole = np.concatenate([window["probabilities"].values for window in [first, *rest]])
    np.testing.assert_array_equal(whole, segment(tile, [small], parameters(**padding)).collect()["probabilities"])


def test_closing_early_ends_reading_and_computing(noise: Noise, small: CheckpointHeader) -> None:
    tile, read = noise(8 * WINDOW_ROWS, 130), []
    lazy = watched(tile, FEATURES, lambda name, row: read.append(row))
    calls: list[int] = []
    hook = load_networks([small], CPU)[0].module.register_forward_hook(lambda *_: calls.append(1))
    windows = segment(lazy, [small], parameters()).windows
    next(windows)
    assert working()
    windows.close()
    hook.remove()
    assert not working()
    # Of 43 rows of patches, one was taken, and one or two were begun; of 8 blocks, one was read ahead.
    assert 1 <= len(calls) <= 3
    assert max(read) <= 1


def test_a_window_that_is_dropped_ends_the_work(noise: Noise, small: CheckpointHeader) -> None:
    windows = segment(noise(1024, 130), [small], parameters()).windows
    next(windows)
    del windows
    assert not working()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotReadableError("chunk nir/c/1/0 is missing"), NotReadableError),
        (SourceUnavailableError("the service says 503"), SourceUnavailableError),
        (OSError("input/output error"), RasterError),
    ],
)
def test_an_unreadable_band_is_named(
    noise: Noise, small: CheckpointHeader, error: Exception, kind: type[Exception]
) -> None:
    def look(name: str, row: int) -> None:
        if (name, row) == ("nir", 1):
            raise error

    windows = segment(watched(noise(1500, 130), FEATURES, look), [small], parameters()).windows
    with pytest.raises(kind, match=rf"band nir, rows 512 to 1023 of the tile, cannot be read: {error}"):
        list(windows)
    assert not working()
