"""Against the peer's own run on the same input."""

import numpy as np
import pytest

from darts_assets.features import PreprocessParameters
from darts_assets.features.preprocess import preprocess

TOLERANCE = {
    "ndvi": 1e-6,
    "relative_elevation": 1e-3,
    "slope": 1e-3,
    "aspect": 1e-2,
    "hillshade": 1e-4,
    "curvature": 1e-3,
    "dem": 1e-2,
    "tc_brightness": 0,
    "tc_greenness": 0,
    "tc_wetness": 0,
    "arcticdem_data_mask": 0,
}


@pytest.mark.parametrize("terrain", ["darts-2025", "darts-2026"])
def test_every_layer_equals_the_peers(reference, terrain):
    scene = reference("optical").assign_attrs(sun_azimuth=165.3, sun_elevation=41.7)
    stream = preprocess(scene, reference("arcticdem"), reference("tcvis"), PreprocessParameters(terrain=terrain))
    ours, peer = stream.collect(), reference("features").load()
    steep = peer["slope"].values > 0.1
    for name, tolerance in TOLERANCE.items():
        expected = peer[f"hillshade_{terrain[-4:]}" if name == "hillshade" else name].values
        found = ours[name].values
        assert found.dtype == expected.dtype, name
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=name)
        difference = np.abs(found.astype(np.float64) - expected)
        if name == "aspect":
            difference = np.minimum(difference, 360 - difference)[steep]
        assert np.nanmax(difference) <= tolerance, name
