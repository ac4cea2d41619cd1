"""Accuracy of an inventory against reference inventories."""
