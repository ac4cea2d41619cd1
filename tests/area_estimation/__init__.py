"""Tests of `darts_assets.area_estimation`."""
