import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest
import torch
import xarray as xr

from darts_assets.bands import band
from darts_assets.errors import CheckpointError, SettingsError
from darts_assets.model import CheckpointHeader, SegmentParameters
from darts_assets.model.checkpoint import load_model
from darts_assets.model.segment import segment
from darts_assets.tiles import geobox_of

CPU = torch.device("cpu")
Noise = Callable[..., xr.Dataset]


def parameters(**changes: object) -> SegmentParameters:
    return replace(SegmentParameters(128, 32, 4, device="cpu"), **changes)


@contextmanager
def counted(header: CheckpointHeader) -> Iterator[list[int]]:
    """The batch sizes with which a model is called."""
    calls: list[int] = []
    hook = load_model(header, CPU).register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    yield calls
    hook.remove()


def in_one_piece(tile: xr.Dataset, header: CheckpointHeader, size: int, overlap: int, padding: int) -> np.ndarray:
    """DARTS's algorithm as its documentation has it, all patches and the whole tile in memory."""
    stack = np.stack([band(name).to_model(tile[name].values) for name in header.bands])
    rows, columns = (max(padding, size - length - padding) for length in stack.shape[1:])
    stack = np.pad(stack, ((0, 0), (padding, rows), (padding, columns)), mode="reflect")
    height, width = stack.shape[1:]
    ramp = np.concatenate([np.linspace(0, 1, overlap), np.ones(size - 2 * overlap), np.linspace(1, 0, overlap)])
    ramp = np.maximum(ramp, 1e-6)
    ramp = np.outer(ramp, ramp)
    total, weights = np.zeros((2, height, width))
    for row in range(0, height - overlap, size - overlap):
        for column in range(0, width - overlap, size - overlap):
            y, x = min(row, height - size), min(column, width - size)
            at = slice(y, y + size), slice(x, x + size)
            with torch.inference_mode():
                logits = load_model(header, CPU)(torch.from_numpy(stack[None, :, *at].copy()))
            total[at] += torch.sigmoid(logits)[0, 0].numpy() * ramp
            weights[at] += ramp
    inner = total / weights
    return inner[padding : padding + tile.sizes["y"], padding : padding + tile.sizes["x"]]


@pytest.mark.parametrize("reflection", [0, 32])
def test_equals_the_peer(
    reference_tile: xr.Dataset,
    reference_headers: list[CheckpointHeader],
    reference: Callable[[str], xr.Dataset],
    reflection: int,
) -> None:
    chosen = SegmentParameters(256, 64, 4, reflection, device="cpu", keep_models=True)
    ours, theirs = segment(reference_tile, reference_headers, chosen).collect(), reference("segmentation")
    assert geobox_of(ours) == geobox_of(reference_tile)
    pairs = {name: name for name in ("probabilities", "probabilities-tcvis", "probabilities-notcvis")}
    if reflection:
        pairs = {"probabilities": "probabilities_reflection32"}
    for name, theirs_name in pairs.items():
        assert ours[name].dtype == np.float32
        difference = np.abs(ours[name].values - theirs[theirs_name].values)
        assert difference.max() < 1e-3
        assert theirs[theirs_name].values.std() > 0.1


@pytest.mark.parametrize(
    ("height", "width", "changes"),
    [
        (300, 410, {}),
        (300, 410, {"reflection": 9}),
        (300, 410, {"edge_padding": False}),
        (320, 224, {"edge_padding": False}),
        (300, 200, {"overlap": 0}),
        (200, 300, {"overlap": 64}),
        (126, 127, {}),
        (90, 300, {}),
        (70, 65, {}),
    ],
)
def test_windows_equal_one_piece(
    noise: Noise, small: CheckpointHeader, height: int, width: int, changes: dict[str, int]
) -> None:
    tile, chosen = noise(height, width), parameters(**changes)
    stream = segment(tile, [small], chosen)
    assert stream.bands == ("probabilities",)
    ours = stream.collect()["probabilities"].values
    expected = in_one_piece(tile, small, chosen.patch_size, chosen.overlap, chosen.padding)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_ensemble_of_different_bands(noise: Noise, small: CheckpointHeader, other: CheckpointHeader) -> None:
    tile = noise(200, 150)
    together = segment(tile, [small, other], parameters(keep_models=True)).collect()
    assert list(together) == ["probabilities", "probabilities-small", "probabilities-other"]
    for header in (small, other):
        alone = segment(tile, [header], parameters()).collect()
        np.testing.assert_allclose(together[f"probabilities-{header.name}"], alone["probabilities"], atol=1e-6)
    mean = (together["probabilities-small"] + together["probabilities-other"]) / 2
    np.testing.assert_allclose(together["probabilities"], mean, atol=1e-6)
    assert list(segment(tile, [small, other], parameters()).collect()) == ["probabilities"]


def test_the_batch_size_does_not_matter(noise: Noise, small: CheckpointHeader) -> None:
    tile = noise(200, 400)
    results = []
    for batch_size, calls_expected in ((1, [1] * 8), (3, [3, 1] * 2), (8, [4] * 2)):
        with counted(small) as calls:
            results.append(segment(tile, [small], parameters(batch_size=batch_size)).collect()["probabilities"])
        assert calls == calls_expected
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    np.testing.assert_allclose(results[0], results[2], atol=1e-5)


def test_without_edge_padding_a_fitting_tile_needs_fewer_patches(noise: Noise, small: CheckpointHeader) -> None:
    tile = noise(224, 320)
    counts = {}
    for edge_padding in (True, False):
        with counted(small) as calls:
            result = segment(tile, [small], parameters(edge_padding=edge_padding)).collect()["probabilities"].values
        counts[edge_padding] = sum(calls)
        assert (result > 0).all()
    assert counts == {True: 3 * 4, False: 2 * 3}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 300), (40, 30)])
def test_a_tile_smaller_than_a_patch(noise: Noise, small: CheckpointHeader, height: int, width: int) -> None:
    tile = noise(height, width).fillna(0.1)
    result = segment(tile, [small], parameters()).collect()
    assert result["probabilities"].shape == (height, width)
    assert ((result["probabilities"] > 0) & (result["probabilities"] < 1)).all()


def test_a_tile_without_data_is_not_run(noise: Noise, small: CheckpointHeader, other: CheckpointHeader) -> None:
    tile = noise(200, 200)
    tile = tile.assign({name: tile[name] * np.nan for name in ("red", "green", "blue", "nir", "ndvi")})
    with counted(small) as calls, counted(other) as more:
        result = segment(tile, [small, other], parameters(keep_models=True)).collect()
    assert calls == more == []
    assert all((result[name] == 0).all() for name in result)


def test_only_patches_with_data_are_run(noise: Noise, small: CheckpointHeader) -> None:
    tile = noise(128, 416)
    optical = ("red", "green", "blue", "nir", "ndvi")
    tile = tile.assign({name: tile[name].where(np.arange(416) < 90) for name in optical})
    with counted(small) as calls:
        result = segment(tile, [small], parameters(edge_padding=False)).collect()["probabilities"].values
    assert calls == [1]
    assert (result[:, :96] > 0).all()
    assert (result[:, 128:] == 0).all()


def test_a_hole_in_the_terrain_does_not_stop_a_patch(noise: Noise, other: CheckpointHeader) -> None:
    tile = noise(128, 128)
    tile["slope"] = tile["slope"] * np.nan
    with counted(other) as calls:
        segment(tile, [other], parameters(edge_padding=False)).collect()
    assert calls == [1]


def test_pixels_are_read_row_of_patches_by_row_of_patches(noise: Noise, small: CheckpointHeader) -> None:
    tile, read = noise(512, 150), []

    def watched(name: str) -> da.Array:
        rows = da.from_array(tile[name].values, chunks=(1, 150))
        return rows.map_blocks(
            lambda block, block_info: (read.append((name, block_info[0]["chunk-location"][0])), block)[1],
            dtype=rows.dtype, meta=np.empty((0, 0), rows.dtype),
        )  # fmt: skip

    lazy = tile.assign({name: (("y", "x"), watched(name)) for name in tile.data_vars if name != "spatial_ref"})
    windows = segment(lazy, [small], parameters()).windows
    assert read == []
    first = next(windows)
    assert first.sizes == {"y": 95, "x": 150}
    assert sorted(row for name, row in read if name == "red") == list(range(127))
    rest = list(windows)
    assert sum(window.sizes["y"] for window in [first, *rest]) == 512
    assert {name for name, _ in read} == set(small.bands)
    # Each row once, but for the one that the padding at the bottom reflects.
    assert len([row for name, row in read if name == "red"]) <= 513


def test_what_cannot_be_segmented(noise: Noise, small: CheckpointHeader) -> None:
    tile = noise(50, 50)
    with pytest.raises(CheckpointError, match=r"model small needs the band\(s\) blue, ndvi, which the tile lacks"):
        segment(tile.drop_vars(["blue", "ndvi"]), [small], parameters())
    with pytest.raises(SettingsError, match="patch_size 100 must be a multiple of 8 for model small"):
        segment(tile, [small], parameters(patch_size=100))
    with pytest.raises(CheckpointError, match="at least one"):
        segment(tile, [], parameters())


def test_progress_and_provenance(noise: Noise, small: CheckpointHeader, caplog: pytest.LogCaptureFixture) -> None:
    tile = noise(200, 100).assign_attrs(sun_azimuth=160.0)
    with caplog.at_level(logging.INFO, "darts_assets.model.segment"):
        stream = segment(tile, [small], parameters())
        stream.collect()
    assert [message.split(" (")[0] for message in caplog.messages] == [
        "segmented row of patches 1 of 2",
        "segmented row of patches 2 of 2",
    ]
    assert stream.attrs == {"sun_azimuth": 160.0, "models": {"small": small.sha256}}
