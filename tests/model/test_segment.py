import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from darts_assets.bands import FEATURES, band
from darts_assets.errors import CheckpointError, SettingsError
from darts_assets.model import CheckpointHeader, SegmentParameters
from darts_assets.model.networks import load_model, load_networks, save_checkpoint
from darts_assets.model.segment import precision_of, segment
from darts_assets.tiles import geobox_of

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
Noise = Callable[..., xr.Dataset]


def parameters(**changes: object) -> SegmentParameters:
    return SegmentParameters(**{"patch_size": 128, "overlap": 32, "batch_size": 4, "device": "cpu", **changes})


@contextmanager
def counted(*header: CheckpointHeader) -> Iterator[list[int]]:
    """The batch sizes with which the first model of an ensemble is called; the ensemble must be asked for alike."""
    calls: list[int] = []
    network = load_networks(header, CPU)[0].module
    hook = network.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
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
                logits = load_model(header)(torch.from_numpy(stack[None, :, *at].copy()))
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
    chosen = SegmentParameters(
        patch_size=256, overlap=64, batch_size=4, reflection=reflection, device="cpu", keep_models=True
    )
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


@pytest.mark.slow
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
    for batch_size, calls_expected in ((1, [1] * 8), (3, [3, 1] * 2), (8, [4] * 2), ("auto", [4] * 2)):
        with counted(small) as calls:
            results.append(segment(tile, [small], parameters(batch_size=batch_size)).collect()["probabilities"])
        assert calls == calls_expected
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)
    np.testing.assert_allclose(results[0], results[2], atol=1e-5)
    np.testing.assert_array_equal(results[2], results[3])


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
    with counted(small, other) as calls:
        result = segment(tile, [small, other], parameters(keep_models=True)).collect()
    assert calls == []
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


def test_probabilities_that_are_no_numbers_are_refused(
    noise: Noise, network: Callable[..., torch.nn.Module], architecture: Callable[..., dict], tmp_path: Path
) -> None:
    model = network(5)
    model.segmentation_head[0].bias.data.fill_(torch.nan)
    header = save_checkpoint(tmp_path / "nan.ckpt", model, architecture(5), FEATURES[:5], "darts-2025")
    with pytest.raises(
        CheckpointError, match="NaN or infinite probabilities in rows 0 to 94 of the tile at precision fp32"
    ):
        segment(noise(300, 130), [header], parameters()).collect()


def test_bf16_of_a_model_that_bears_it(noise: Noise, small: CheckpointHeader) -> None:
    tile = noise(300, 410)
    exact, short = (
        segment(tile, [small], parameters(precision=precision)).collect()["probabilities"].values
        for precision in ("fp32", "bf16")
    )
    assert 0 < np.abs(short - exact).max() < 1e-2
    assert precision_of([small], parameters(precision="bf16")) == "bf16"
    assert precision_of([small], parameters()) == "fp32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
@pytest.mark.parametrize(("precision", "off"), [("fp32", 1e-3), ("auto", 1e-2)])
@pytest.mark.parametrize("batch_size", ["auto", 3])
def test_a_gpu_gives_the_same(
    reference_tile: xr.Dataset,
    reference_headers: list[CheckpointHeader],
    precision: str,
    off: float,
    batch_size: object,
) -> None:
    on_cpu, on_gpu = (
        segment(
            reference_tile, reference_headers,
            parameters(
                patch_size=256, overlap=64, batch_size=batch_size, device=device, precision=chosen, keep_models=True
            ),
        ).collect()
        for device, chosen in (("cpu", "fp32"), ("cuda", precision))
    )  # fmt: skip
    for name in on_cpu:
        np.testing.assert_allclose(on_gpu[name], on_cpu[name], atol=off, rtol=0)


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


def test_the_spread_is_the_deviation_between_the_models(
    noise: Noise, small: CheckpointHeader, other: CheckpointHeader
) -> None:
    tile = noise(150, 140)
    both = segment(tile, [small, other], parameters(keep_models=True, keep_spread=True)).collect()
    each = np.stack([both["probabilities-small"].values, both["probabilities-other"].values])
    np.testing.assert_allclose(both["model_spread"].values, each.std(axis=0), atol=1e-6)
    assert both["model_spread"].values.max() > 0.01
    alone = segment(tile, [small, other], parameters(keep_spread=True)).collect()
    assert list(alone.data_vars) == ["probabilities", "model_spread"]
    np.testing.assert_array_equal(alone["model_spread"].values, both["model_spread"].values)
    stored = band("model_spread").decode(band("model_spread").encode(alone["model_spread"].values))
    np.testing.assert_allclose(stored, alone["model_spread"].values, atol=0.51e-4)
    assert list(segment(tile, [small], parameters(keep_spread=True)).collect().data_vars) == ["probabilities"]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_calibrates_probabilities(
    noise: Noise, network: Callable[..., torch.nn.Module], architecture: Callable[..., object], tmp_path: Path,
    temperature: float,
) -> None:  # fmt: skip
    model, bands, tile = network(5), FEATURES[:5], noise(100, 100)
    plain = save_checkpoint(tmp_path / "plain.ckpt", model, architecture(5), bands, "darts-2025")
    calibrated = save_checkpoint(
        tmp_path / "calibrated.ckpt", model, architecture(5), bands, "darts-2025", temperature=temperature
    )
    assert (plain.temperature, calibrated.temperature) == (None, temperature)
    assert plain.sha256 != calibrated.sha256
    # A tile within one patch: nothing is blended.
    raw = segment(tile, [plain], parameters()).collect()
    made = segment(tile, [calibrated], parameters()).collect()
    p = raw["probabilities"].values.astype(np.float64)
    expected = 1 / (1 + np.exp(-np.log(p / (1 - p)) / temperature))
    np.testing.assert_allclose(made["probabilities"].values, expected, atol=1e-5)
    assert np.abs(expected - p).max() > 0.01
    assert made.attrs["temperatures"] == {"calibrated": temperature}
    assert "temperatures" not in raw.attrs
    # In an ensemble, each model has its own.
    both = segment(tile, [plain, calibrated], parameters()).collect()
    np.testing.assert_allclose(both["probabilities"].values, (p + expected) / 2, atol=1e-5)
