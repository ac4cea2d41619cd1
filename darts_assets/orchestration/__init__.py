"""The only floor that knows Dagster."""
