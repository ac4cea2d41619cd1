"""Chunk assets of the auxiliary cubes, and the jobs that fill the cubes and expire their history."""
