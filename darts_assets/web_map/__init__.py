"""The web map of the inventory: a static page in the catalog, and its data files."""
