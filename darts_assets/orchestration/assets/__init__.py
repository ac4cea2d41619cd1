"""The assets, one module per step of the chain."""
