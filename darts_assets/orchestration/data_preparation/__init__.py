"""Jobs that fetch everything that the chains of a selection of scenes need."""
