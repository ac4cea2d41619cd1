"""Shared by all slices of the asset graph: partitions, resources, IO managers, executors, metadata."""
