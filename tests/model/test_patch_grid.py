from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_assets.errors import SettingsError
from darts_assets.model import SegmentParameters
from darts_assets.model.patch_grid import PatchAxis


def test_starts() -> None:
    assert PatchAxis(1024, 1, 256, 64).starts == (0, 192, 384, 576, 768, 770)
    assert PatchAxis(1024, 0, 256, 64).starts == (0, 192, 384, 576, 768)
    assert PatchAxis(10980, 1, 1024, 256).starts[-2:] == (12 * 768, 10982 - 1024)
    assert PatchAxis(100, 1, 256, 64).starts == (0,)


@settings(derandomize=True, database=None, deadline=None)
@given(st.integers(1, 700), st.integers(0, 40), st.integers(4, 64), st.integers(0, 32))
def test_the_patches_cover_the_axis(length: int, padding: int, patch: int, overlap: int) -> None:
    axis = PatchAxis(length, padding, patch, min(overlap, patch // 2))
    starts = np.array(axis.starts)
    assert starts[0] == 0
    assert starts[-1] + patch == axis.extended
    assert (np.diff(starts) > 0).all()
    assert (np.diff(starts) <= patch - axis.overlap).all()
    assert (axis.weights > 0).all()
    source = axis.source(0, axis.extended)
    after = axis.extended - padding - length
    np.testing.assert_array_equal(source, np.pad(np.arange(length), (padding, after), mode="reflect"))
    np.testing.assert_array_equal(axis.source(padding, padding + length), np.arange(length))


def test_ramp() -> None:
    ramp = PatchAxis(100, 1, 16, 4).ramp
    np.testing.assert_allclose(ramp[:5], [0, 1 / 3, 2 / 3, 1, 1], atol=2e-6)
    np.testing.assert_array_equal(ramp, ramp[::-1])
    np.testing.assert_array_equal(PatchAxis(100, 1, 16, 0).ramp, np.ones(16))


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch_size": 0},
        {"overlap": -1},
        {"batch_size": 0},
        {"batch_size": "8"},
        {"batch_size": "all"},
        {"batch_size": True},
        {"reflection": -1},
        {"overlap": 513},
        {"precision": "fp8"},
    ],
)
def test_parameters_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SegmentParameters(**wrong)


def test_padding() -> None:
    assert SegmentParameters(reflection=3).padding == 4
    assert SegmentParameters(reflection=3, edge_padding=False).padding == 3
