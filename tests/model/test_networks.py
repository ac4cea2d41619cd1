import gc
import hashlib
import logging
import os
import shutil
import weakref
import zipfile
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

from darts_assets.bands import FEATURES, band
from darts_assets.demo import DEMO_CHECKPOINT
from darts_assets.errors import CheckpointError, SettingsError
from darts_assets.model import CheckpointHeader, read_header
from darts_assets.model.networks import (
    TOLERANCE,
    Network,
    difference,
    exact_network,
    load_model,
    load_networks,
    precisions,
    save_checkpoint,
    shortest,
)

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
MakeModel = Callable[..., torch.nn.Module]
Architecture = Callable[[int], dict[str, Any]]


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
    assert "precision bf16: largest differences of probabilities on a test pattern: small 0.0" in caplog.text
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
    assert "precision bf16: largest differences" in caplog.text
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


class Evil:
    def __init__(self, order: str) -> None:
        self.order = order

    def __reduce__(self):
        return os.system, (self.order,)


def test_round_trip(tmp_path: Path, network: MakeModel, architecture: Architecture) -> None:
    model, path = network(5), tmp_path / "new" / "demo.ckpt"
    header = save_checkpoint(
        path, model, architecture(5), FEATURES[:5], "physical", normalization=1, epochs=7, loss="focal"
    )
    assert header == read_header(path)
    assert header.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (header.format, header.bands, header.terrain) == ("lightning", FEATURES[:5], "physical")
    assert (header.name, header.normalization, header.architecture) == ("demo", 1, architecture(5))
    content = torch.load(path, weights_only=True)
    assert (content["hyper_parameters"]["epochs"], content["hyper_parameters"]["loss"]) == (7, "focal")
    assert all(name.startswith("model.") for name in content["state_dict"])
    loaded = load_model(header)
    assert not loaded.training
    x = torch.rand(1, 5, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    assert [file.name for file in path.parent.iterdir()] == ["demo.ckpt"]


def test_the_same_model_gives_the_same_file(tmp_path: Path, network: MakeModel, architecture: Architecture) -> None:
    headers = [
        save_checkpoint(tmp_path / folder / "m.ckpt", network(5), architecture(5), FEATURES[:5], "darts-2025")
        for folder in "ab"
    ]
    assert headers[0].sha256 == headers[1].sha256


def test_a_failed_save_leaves_what_was_there(tmp_path: Path, network: MakeModel, architecture: Architecture) -> None:
    path = tmp_path / "m.ckpt"
    save_checkpoint(path, network(5), architecture(5), FEATURES[:5], "darts-2025")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="weights do not fit"):
        save_checkpoint(path, network(4), architecture(5), FEATURES[:5], "darts-2025")
    with pytest.raises(CheckpointError, match="5 bands, but its model takes 4"):
        save_checkpoint(path, network(4), architecture(4), FEATURES[:5], "darts-2025")
    with pytest.raises(CheckpointError, match=r"calls numpy\.errstate"):
        save_checkpoint(path, network(5), architecture(5), FEATURES[:5], "darts-2025", extra=np.errstate)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["m.ckpt"]


def test_both_reference_formats_load(reference_headers: list[CheckpointHeader]) -> None:
    for header in reference_headers:
        content = torch.load(header.path, weights_only=True)
        weights = content.get("statedict") or content["state_dict"]
        model = load_model(header)
        first = next(iter(weights.values()))
        torch.testing.assert_close(next(iter(model.state_dict().values())), first, rtol=0, atol=0)


def test_legacy_with_pickled_dict_and_leftovers(tmp_path: Path, network: MakeModel, architecture: Architecture) -> None:
    class Bands:
        def __reduce__(self):
            return dict, ({"bands": ["red", "nir"], "band_factors": [1.0, 1.0]},)

    config = {"model": {**architecture(2), "encoder_weights": "imagenet"}, "bands": Bands(), "time": "2024"}
    content = {
        "config": config,
        "statedict": network(2).state_dict(),
        "paths": [Path("x")],
        "score": np.float64(0.3),
    }
    torch.save(content, tmp_path / "old.pt")
    load_model(read_header(tmp_path / "old.pt"))


def test_a_sigmoid_is_not_applied_twice(tmp_path: Path, network: MakeModel, architecture: Architecture) -> None:
    path = tmp_path / "m.ckpt"
    header = save_checkpoint(path, network(5), {**architecture(5), "activation": "sigmoid"}, FEATURES[:5], "darts-2025")
    x = torch.rand(1, 5, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(load_model(header)(x), network(5)(x))


def test_what_the_training_module_holds_besides_is_left_out(
    tmp_path: Path, network: MakeModel, architecture: Architecture
) -> None:
    state = {f"model.{name}": value for name, value in network(5).state_dict().items()}
    config = {"model": architecture(5), "bands": list(FEATURES[:5])}
    torch.save(
        {"hyper_parameters": {"config": config}, "state_dict": {**state, "loss_fn.alpha": torch.ones(1)}},
        tmp_path / "m.ckpt",
    )
    load_model(read_header(tmp_path / "m.ckpt"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arch": "wnet"}, "unknown architecture 'wnet'; known are .*unet, unetplusplus"),
        ({"encoder_name": "resnet19"}, "Wrong encoder name `resnet19`, supported encoders:.*resnet18"),
        ({"encoder_name": "tu-resnet19"}, r"Unknown model \(resnet19\)"),
        (
            {"encoder_name": "tu-hf-hub:somebody/something"},
            "the encoder_name 'tu-hf-hub:somebody/something', which is not",
        ),
        ({"surprise": 1}, "surprise"),
        ({"encoder_depth": 9}, "depth"),
        ({"encoder_name": "resnet18"}, "weights do not fit the model"),
    ],
)
def test_an_unknown_or_unfitting_architecture_is_refused(
    tmp_path: Path, network: MakeModel, architecture: Architecture, change: dict[str, Any], words: str
) -> None:
    config = {"model": {**architecture(5), **change}, "bands": list(FEATURES[:5])}
    torch.save({"config": config, "statedict": network(5).state_dict()}, tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match=words) as caught:
        load_model(read_header(tmp_path / "m.pt"))
    assert str(tmp_path / "m.pt") in str(caught.value)


def test_code_is_refused_and_not_run(tmp_path: Path, small: CheckpointHeader) -> None:
    marker, path = tmp_path / "marker", tmp_path / "evil.ckpt"
    content = torch.load(small.path, weights_only=True)
    content["epoch"] = Evil(f"touch {marker}")
    torch.save(content, path)
    # A header from elsewhere: not even then.
    forged = replace(small, path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match=r"evil\.ckpt is rejected"):
        load_model(forged)
    assert not marker.exists()
    with pytest.raises(CheckpointError, match=r"evil\.ckpt is rejected: it calls posix\.system"):
        read_header(path)
    assert not marker.exists()


def test_weights_that_are_not_there(tmp_path: Path, small: CheckpointHeader) -> None:
    path = tmp_path / "hollow.ckpt"
    with zipfile.ZipFile(small.path) as whole, zipfile.ZipFile(path, "w") as hollow:
        for item in whole.infolist():
            if "/data/" not in item.filename:
                hollow.writestr(item, whole.read(item))
    with pytest.raises(CheckpointError, match=r"hollow\.ckpt is damaged"):
        load_model(read_header(path))


def test_a_file_that_changed_after_its_header_was_read(
    tmp_path: Path, network: MakeModel, architecture: Architecture
) -> None:
    path = tmp_path / "m.ckpt"
    header = save_checkpoint(path, network(5, 11), architecture(5), FEATURES[:5], "darts-2025")
    save_checkpoint(path, network(5, 12), architecture(5), FEATURES[:5], "darts-2025")
    with pytest.raises(CheckpointError, match="has changed since"):
        load_model(header)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(header)
