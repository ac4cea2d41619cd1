"""Auxiliary cubes: the resource, chunk assets, chunk selection, and the job that expires the cubes' history."""
