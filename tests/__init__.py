"""Tests of `darts_assets`; `README.md` describes how to run them."""
