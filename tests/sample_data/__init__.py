"""Writers of synthetic input files with known values."""
