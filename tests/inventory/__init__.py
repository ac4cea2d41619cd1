"""Tests of `darts_assets.inventory`."""
