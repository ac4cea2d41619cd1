import inspect
import os
import pickle
import subprocess
import sys
import tracemalloc
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
from darts_assets.model import CheckpointHeader, read_header, required_bands, terrain_convention
from darts_assets.model.architectures import keyword_problem, known_architectures
from darts_assets.model.header import MAX_PICKLE_BYTES, check_ensemble

MODEL = {"arch": "unet", "encoder_name": "resnet18", "in_channels": 3, "classes": 1}
BANDS = ["red", "green", "ndvi"]
WEIGHTS = {"a": torch.zeros(2)}


def lightning(**config: Any) -> dict[str, Any]:
    return {"hyper_parameters": {"config": {"model": MODEL, "bands": BANDS, **config}}, "state_dict": WEIGHTS}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[Any], Path]:
    def save(content: Any) -> Path:
        path = tmp_path / "model.ckpt"
        torch.save(content, path)
        return path

    return save


class PickledAsDict:
    """As DARTS's old class `Bands`."""

    def __reduce__(self):
        return dict, ({"bands": BANDS, "band_factors": [1.0, 1.0, 1.0], "band_offsets": [0.0, 0.0, 0.0]},)


class Evil:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("file", ["small_tcvis_old_format.pt", "small_notcvis_lightning.ckpt"])
def test_says_what_torch_says(shared: Path, file: str) -> None:
    path = shared / "reference" / file
    header = read_header(path)
    content = torch.load(path, weights_only=True)
    config = content["config"] if "config" in content else content["hyper_parameters"]["config"]
    assert header.architecture == config["model"]
    assert header.bands == tuple(config["bands"])
    assert header.format == ("legacy" if "config" in content else "lightning")
    assert (header.name, header.terrain, header.normalization) == (path.stem, None, None)
    assert header.temperature is None
    assert len(header.sha256) == 64
    assert hash(header) == hash(read_header(path))


def test_lightning(saved: Callable[[Any], Path]) -> None:
    header = read_header(saved(lightning(terrain="physical", normalization=2, temperature=2)), "mine")
    assert header.temperature == 2.0
    assert (header.name, header.bands, header.terrain, header.normalization) == ("mine", tuple(BANDS), "physical", 2)


@pytest.mark.parametrize(
    ("card", "read"),
    [
        ({"markdown": "# A", "licence": None, "accuracy": {"test": {}}, "more": 1}, True),
        ({"markdown": 7, "licence": None, "accuracy": {}}, False),
        ({"markdown": "# A", "licence": None, "accuracy": {"iou": float("nan")}}, False),
        ({"markdown": "# A", "licence": None, "accuracy": {"iou": torch.zeros(1)}}, False),
        ("a card of another program", False),
    ],
)
def test_model_cards(saved: Callable[[Any], Path], card: Any, read: bool) -> None:
    content = lightning()
    content["hyper_parameters"]["card"] = card
    kept = {"markdown": "# A", "licence": None, "accuracy": {"test": {}}}
    assert read_header(saved(content)).card == (kept if read else {})


@pytest.mark.parametrize(
    "bands",
    [
        {"bands": BANDS},
        {"bands": tuple(BANDS)},
        {"bands": {"bands": BANDS, "band_factors": [1.0] * 3}},
        {"bands": dict.fromkeys(BANDS, (1.0, 0.0))},
        {"bands": PickledAsDict()},
        {"input_combination": BANDS, "norm_factors": dict.fromkeys(BANDS, 1 / 3000)},
    ],
    ids=["list", "tuple", "dict", "dict by name", "pickled class", "input_combination"],
)
def test_legacy_bands(saved: Callable[[Any], Path], bands: dict[str, Any]) -> None:
    header = read_header(saved({"config": {"model": MODEL, **bands}, "statedict": WEIGHTS}))
    assert (header.bands, header.format) == (tuple(BANDS), "legacy")


def test_leftovers_of_training_are_ignored(saved: Callable[[Any], Path]) -> None:
    content = lightning()
    content |= {"callbacks": {"best_model_path": Path("best.ckpt"), "score": np.float64(0.5)}}
    content["optimizer_states"] = [{"state": {0: {"exp_avg": torch.ones(3, dtype=torch.bfloat16)}}}]
    content["parameter"] = torch.nn.Parameter(torch.ones(2))
    assert read_header(saved(content)).bands == tuple(BANDS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lightning(bands=[*FEATURES[:12]], model={**MODEL, "in_channels": 13}), "12 bands, .* 13 channels"),
        (lightning(bands=["red", "gren", "ndvi"]), "unknown band.*gren; known are red"),
        (lightning(bands=["red", "red", "ndvi"]), "twice"),
        (lightning(bands=[]), "does not list its input bands"),
        (lightning(bands=7), "does not list its input bands"),
        (lightning(model={**MODEL, "classes": 2}), "2 classes, expected 1"),
        (lightning(model={**MODEL, "activation": "softmax"}), "activation"),
        (lightning(model={**MODEL, "checkpoint_path": "/a.ckpt"}), "unknown keyword 'checkpoint_path'; known are arch"),
        (lightning(model={**MODEL, "pretrained_cfg": {"file": "/a.ckpt"}}), "unknown keyword 'pretrained_cfg'"),
        (lightning(model={**MODEL, 3: 4}), "unknown keyword 3"),
        (lightning(model={**MODEL, "encoder_name": "tu-local-dir:/models"}), "encoder_name 'tu-local-dir:/models'"),
        (lightning(model={**MODEL, "decoder_channels": torch.zeros(1)}), "the decoder_channels .* is not accepted"),
        (lightning(model={**MODEL, "decoder_channels": [10**9]}), "the decoder_channels .* is not accepted"),
        (lightning(model={**MODEL, "decoder_use_norm": {"type": [[]]}}), "the decoder_use_norm .* is not accepted"),
        (lightning(model={"in_channels": 3}), "does not name its architecture"),
        (lightning(terrain="moon"), "'moon'; known are darts-2025, darts-2026, physical"),
        (lightning(normalization=[1]), "normalization"),
        (lightning(temperature=0), "temperature is 0, expected a positive number"),
        (lightning(temperature=True), "temperature is True, expected a positive number"),
        (lightning(temperature=float("nan")), "temperature is nan, expected a positive number"),
        (lightning(temperature="2"), "temperature is '2', expected a positive number"),
        ({"hyper_parameters": {}, "state_dict": WEIGHTS}, "not a DARTS checkpoint"),
        ({"hyper_parameters": {"config": {"model": MODEL, "bands": BANDS}}}, "not a DARTS checkpoint"),
        ([1, 2], "not a DARTS checkpoint"),
        (torch.zeros(3), "not a DARTS checkpoint"),
    ],
)
def test_what_does_not_fit_is_refused(saved: Callable[[Any], Path], content: Any, words: str) -> None:
    path = saved(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", ".hidden"])
def test_a_name_must_fit_in_a_band_name(saved: Callable[[Any], Path], name: str) -> None:
    with pytest.raises(CheckpointError, match="name of a model"):
        read_header(saved(lightning()), name)


def test_what_is_no_checkpoint(tmp_path: Path, shared: Path) -> None:
    whole = (shared / "reference" / "small_tcvis_old_format.pt").read_bytes()
    files = {
        "random": np.random.default_rng(0).bytes(5000),
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "text": b"version https://git-lfs.github.com/spec/v1\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{name} is not a checkpoint, or is truncated"):
            read_header(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("table.csv", "a,b")
    with pytest.raises(CheckpointError, match="is a zip file, but not a checkpoint"):
        read_header(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "corrupt.pt", "w") as archive:
        archive.writestr("corrupt/data.pkl", b"\x80\x02}q\x00(X\xff")
    with pytest.raises(CheckpointError, match="corrupt"):
        read_header(tmp_path / "corrupt.pt")
    with pytest.raises(CheckpointError, match=r"absent\.pt cannot be read: No such file"):
        read_header(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_header(tmp_path)


def test_the_format_before_torch_1_6(tmp_path: Path) -> None:
    torch.save(lightning(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"before 1\.6"):
        read_header(tmp_path / "old.pt")


@pytest.mark.parametrize(
    ("function", "named"), [(os.system, "posix.system"), (eval, "__builtin__.eval"), (exec, "exec")], ids=repr
)
def test_code_is_refused_and_not_run(
    saved: Callable[[Any], Path], tmp_path: Path, function: Callable[..., Any], named: str
) -> None:
    marker = tmp_path / "marker"
    order = f"touch {marker}" if function is os.system else f"open({str(marker)!r}, 'w')"
    content = lightning()
    content["epoch"] = Evil(function, order)
    path = saved(content)
    with pytest.raises(CheckpointError, match=named):
        read_header(path)
    assert not marker.exists()


def test_nested_names_lead_nowhere(tmp_path: Path) -> None:
    """Protocol 4 can name attributes of globals (`torch.FloatStorage.__init__.__globals__`)."""
    order = b"\x80\x04\x8c\x05torch\x8c$FloatStorage.__init__.__globals__.x\x93."
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", order)
    with pytest.raises(CheckpointError, match=r"FloatStorage\.__init__"):
        read_header(tmp_path / "x.pt")


def test_needs_no_torch(shared: Path) -> None:
    path = shared / "reference" / "small_tcvis_old_format.pt"
    code = (
        "import sys, darts_assets.model as m\n"
        f"h = m.read_header({str(path)!r}); assert m.required_bands([h]) == h.bands\n"
        "assert m.SegmentParameters().patch_size == 1024\n"
        "assert 'torch' not in sys.modules and 'segmentation_models_pytorch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_known_architectures_are_those_of_the_library() -> None:
    import segmentation_models_pytorch as smp

    assert known_architectures() == set(smp.MODEL_ARCHITECTURES_MAPPING)


def test_required_bands_are_the_union_in_training_order(small: CheckpointHeader, other: CheckpointHeader) -> None:
    assert required_bands([other, small]) == (*FEATURES[:5], "slope", "tc_wetness")
    assert required_bands([replace(small, bands=("dem", "swir16", "red"))]) == ("red", "swir16", "dem")


def test_terrain_convention(small: CheckpointHeader, other: CheckpointHeader) -> None:
    silent = replace(small, name="silent", terrain=None)
    assert terrain_convention([silent]) == "darts-2025"
    assert terrain_convention([silent, other]) == "darts-2025"
    assert terrain_convention([replace(small, terrain="physical")]) == "physical"
    with pytest.raises(CheckpointError, match="silent darts-2025, other physical"):
        terrain_convention([silent, replace(other, terrain="physical")])


def test_what_is_no_ensemble(small: CheckpointHeader) -> None:
    with pytest.raises(CheckpointError, match="at least one"):
        check_ensemble([])
    with pytest.raises(CheckpointError, match="same name: small, small"):
        check_ensemble([small, small])


def test_every_keyword_of_the_architectures_is_known() -> None:
    import segmentation_models_pytorch as smp

    defaults = {
        name: parameter.default
        for model in smp.MODEL_ARCHITECTURES_MAPPING.values()
        for name, parameter in inspect.signature(model).parameters.items()
        if name != "kwargs"
    }
    assert keyword_problem({**defaults, "encoder_name": "resnet18"}) == ""


def zipped(path: Path, content: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", content, zipfile.ZIP_STORED)
        for name, value in entries.items():
            archive.writestr(f"x/data/{name}", value)
    return path


def test_sizes_that_a_file_claims(tmp_path: Path, saved: Callable[[Any], Path]) -> None:
    with zipfile.ZipFile(saved(lightning())) as archive:
        content = archive.read("model/data.pkl")
    with pytest.raises(CheckpointError, match=r"its entries have \d+ bytes, the file only \d+"):
        read_header(zipped(tmp_path / "grows.pt", content, a=bytes(10**6)))
    with pytest.raises(CheckpointError, match=r"its data\.pkl has \d+ bytes"):
        read_header(zipped(tmp_path / "long.pt", b"\x80\x02" + b"]0" * MAX_PICKLE_BYTES))
    tracemalloc.start()
    try:
        for order in (b"r\xff\xff\xff\x7f", b"\x96" + (10**15).to_bytes(8, "little"), b"\x8e" + bytes(5) + b"\xff\0\0"):
            with pytest.raises(CheckpointError, match=r"corrupt|not a DARTS checkpoint"):
                read_header(zipped(tmp_path / "claims.pt", b"\x80\x05]" + order + b"."))
        assert tracemalloc.get_traced_memory()[1] < 10**8
    finally:
        tracemalloc.stop()


def test_a_file_that_is_also_something_else(tmp_path: Path, saved: Callable[[Any], Path]) -> None:
    marker = tmp_path / "marker"
    path = saved(lightning())
    path.write_bytes(pickle.dumps(Evil(os.system, f"touch {marker}"), protocol=2) + path.read_bytes())
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_header(path)
    assert not marker.exists()
