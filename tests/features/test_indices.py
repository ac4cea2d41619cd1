import numpy as np

from darts_assets.features.indices import ndvi


def test_ndvi_of_clipped_reflectances():
    red = np.array([0.1, 0.2, -0.02, 0.3, np.nan, -0.1], dtype=np.float32)
    nir = np.array([0.3, 0.2, 0.1, 1.5, 0.2, -0.1], dtype=np.float32)
    values = ndvi(red, nir)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, [0.5, 0, 1, 0.7 / 1.3, np.nan, np.nan], rtol=1e-6)
