import hashlib
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darts_assets.bands import FEATURES
from darts_assets.errors import CheckpointError
from darts_assets.model import CheckpointHeader, read_header
from darts_assets.model.checkpoint import load_model, save_checkpoint

Network = Callable[..., torch.nn.Module]
Architecture = Callable[[int], dict[str, Any]]


class Evil:
    def __init__(self, order: str) -> None:
        self.order = order

    def __reduce__(self):
        return os.system, (self.order,)


def test_round_trip(tmp_path: Path, network: Network, architecture: Architecture) -> None:
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


def test_the_same_model_gives_the_same_file(tmp_path: Path, network: Network, architecture: Architecture) -> None:
    headers = [
        save_checkpoint(tmp_path / folder / "m.ckpt", network(5), architecture(5), FEATURES[:5], "darts-2025")
        for folder in "ab"
    ]
    assert headers[0].sha256 == headers[1].sha256


def test_a_failed_save_leaves_what_was_there(tmp_path: Path, network: Network, architecture: Architecture) -> None:
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


def test_legacy_with_pickled_dict_and_leftovers(tmp_path: Path, network: Network, architecture: Architecture) -> None:
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


def test_a_sigmoid_is_not_applied_twice(tmp_path: Path, network: Network, architecture: Architecture) -> None:
    path = tmp_path / "m.ckpt"
    header = save_checkpoint(path, network(5), {**architecture(5), "activation": "sigmoid"}, FEATURES[:5], "darts-2025")
    x = torch.rand(1, 5, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(load_model(header)(x), network(5)(x))


def test_what_the_training_module_holds_besides_is_left_out(
    tmp_path: Path, network: Network, architecture: Architecture
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
        ({"encoder_name": "tu-hf-hub:somebody/something"}, "unknown encoder 'tu-hf-hub:somebody/something'"),
        ({"surprise": 1}, "surprise"),
        ({"encoder_depth": 9}, "depth"),
        ({"encoder_name": "resnet18"}, "weights do not fit the model"),
    ],
)
def test_an_unknown_or_unfitting_architecture_is_refused(
    tmp_path: Path, network: Network, architecture: Architecture, change: dict[str, Any], words: str
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
    tmp_path: Path, network: Network, architecture: Architecture
) -> None:
    path = tmp_path / "m.ckpt"
    header = save_checkpoint(path, network(5, 11), architecture(5), FEATURES[:5], "darts-2025")
    save_checkpoint(path, network(5, 12), architecture(5), FEATURES[:5], "darts-2025")
    with pytest.raises(CheckpointError, match="has changed since"):
        load_model(header)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model(header)
