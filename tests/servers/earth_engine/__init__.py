"""An Earth Engine REST API on synthetic images."""
