"""Benchmarks, and the tests of their tools."""
