"""The data set: Level 1, Level 2, coverage, and releases of them for a journal or a repository."""
