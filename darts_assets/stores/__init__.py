"""Stores on a local path or on S3: locations, atomic publishing, preflight, tiles and vectors."""
