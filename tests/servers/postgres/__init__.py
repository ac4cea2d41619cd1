"""Temporary PostgreSQL clusters."""
