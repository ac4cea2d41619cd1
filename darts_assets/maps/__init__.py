"""Maps of footprints, scenes and sites, for the metadata of assets."""
