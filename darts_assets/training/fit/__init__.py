"""Fitting a model to a training set with Lightning."""
