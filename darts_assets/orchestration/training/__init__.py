"""Labelled images, samples, data sets, models and reports as assets."""
