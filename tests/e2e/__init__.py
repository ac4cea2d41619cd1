"""End-to-end tests and the modules that they share."""
