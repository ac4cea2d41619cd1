"""Notifications of failed runs, and the timings of runs."""
