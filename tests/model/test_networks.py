import gc
import logging
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from darts_assets.bands import band
from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.errors import CheckpointError, SettingsError
from darts_assets.model import CheckpointHeader, read_header
from darts_assets.model.checkpoint import load_model
from darts_assets.model.networks import (
    TOLERANCE,
    Network,
    difference,
    exact_network,
    load_networks,
    precisions,
    shortest,
)

CPU = torch.device("cpu")


def inputs(tile: xr.Dataset, header: CheckpointHeader, side: int) -> torch.Tensor:
    at = {"y": slice(0, side), "x": slice(0, side)}
    return torch.from_numpy(np.stack([band(name).to_model(tile[name].isel(at).values) for name in header.bands])[None])


def test_a_model_loads_once_per_process(small: CheckpointHeader, tmp_path: Path) -> None:
    path = Path(shutil.copy(small.path, tmp_path / "copy.ckpt"))
    header = read_header(path)
    first = load_networks([header], CPU)
    path.write_bytes(b"nobody reads this again")
    assert load_networks([header], CPU) is first
    # The same content under another name is the same model.
    assert load_networks([replace(small, name="again")], CPU) is first
    with pytest.raises(CheckpointError, match="has changed since"):
        load_networks([header], CPU, "bf16")


def test_models_go_when_others_are_needed(small: CheckpointHeader, other: CheckpointHeader) -> None:
    before = weakref.ref(load_networks([small], CPU)[0].module)
    together = load_networks([small, other], CPU)
    gc.collect()
    assert before() is None
    assert len(together) == 2
    assert load_networks([small, other], CPU) is together


def test_folding_keeps_numbers_and_leaves_no_normalization(
    reference_headers: list[CheckpointHeader], reference_tile: xr.Dataset
) -> None:
    for header in (*reference_headers, read_header(DEMO_CHECKPOINT, "demo")):
        network, exact = load_networks([header], CPU)[0], load_model(header)
        assert any(isinstance(layer, nn.BatchNorm2d) for layer in exact.modules())
        assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.module.modules())
        x = inputs(reference_tile, header, 256)
        with torch.inference_mode():
            expected = torch.sigmoid(exact(x))[:, 0]
        assert expected.std() > 0.1
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-4)


class Crossed(nn.Module):
    """Runs its normalization before the convolution that its list has first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(5, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.norm.running_mean.fill_(0.7)
        self.encoder = SimpleNamespace(output_stride=8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x)).sum(1, keepdim=True)


def test_what_cannot_be_folded_runs_as_it_is() -> None:
    torch.manual_seed(3)
    model = Crossed().eval().requires_grad_(False)
    network = exact_network(model, 5, CPU)
    x = torch.rand(2, 5, 64, 64)
    torch.testing.assert_close(network(x), torch.sigmoid(model(x))[:, 0])
    assert isinstance(network.module.norm, nn.BatchNorm2d)


def test_a_cpu_computes_in_fp32_unless_told(small: CheckpointHeader) -> None:
    assert precisions(CPU) == ("fp32",)
    assert load_networks([small], CPU)[0].precision == "fp32"
    assert load_networks([small], CPU, "bf16")[0].precision == "bf16"
    with pytest.raises(SettingsError, match="fp16 needs a GPU"):
        load_networks([small], CPU, "fp16")


def test_bf16_keeps_the_probabilities_of_a_model_that_bears_it(
    small: CheckpointHeader, noise: Callable[..., xr.Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    exact = load_networks([small], CPU)
    with caplog.at_level(logging.INFO):
        chosen = shortest(exact, ("bf16", "fp32"), {"small": 5})
    assert chosen[0].precision == "bf16"
    assert "precision bf16 moves probabilities of a test pattern by up to: small 0.0" in caplog.text
    x = inputs(noise(128, 128), small, 128)
    off = (chosen[0](x) - exact[0](x)).abs().max()
    assert 0 < off <= TOLERANCE


@pytest.mark.parametrize("which", ["demo", "tcvis", "notcvis"])
def test_a_model_that_does_not_bear_bf16_stays_in_fp32(
    which: str, reference_headers: list[CheckpointHeader], reference_tile: xr.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    header = {each.name: each for each in (*reference_headers, read_header(DEMO_CHECKPOINT, "demo"))}[which]
    exact = load_networks([header], CPU)
    bands = {header.name: len(header.bands)}
    assert shortest(exact, ("bf16", "fp32"), bands)[0].precision == "fp32"
    with caplog.at_level(logging.WARNING):
        forced = shortest(exact, ("bf16",), bands)[0]
    assert forced.precision == "bf16"
    assert "precision bf16 moves probabilities" in caplog.text
    # What the pattern says holds for real features.
    x = inputs(reference_tile, header, 256)
    assert (forced(x) - exact[0](x)).abs().max() > TOLERANCE


def test_overflow_counts_as_a_difference(small: CheckpointHeader) -> None:
    exact = load_networks([small], CPU)[0]

    class Overflowing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return exact.module(x) * torch.inf * 0

    broken = Network(Overflowing(), exact.stride, CPU, "fp32")
    assert difference(broken, exact, 5) == float("inf")


def test_compiled(small: CheckpointHeader, noise: Callable[..., xr.Dataset]) -> None:
    x = inputs(noise(64, 64), small, 64)
    expected = load_networks([small], CPU)[0](x)
    compiled: Any = load_networks([small], CPU, compiled=True)[0]
    # Compiling C++ for each of its layers takes minutes on two cores; what PyTorch makes of them is its own business.
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(compiled(x), expected, rtol=0, atol=1e-4)
    assert isinstance(compiled.module, torch._dynamo.OptimizedModule)
