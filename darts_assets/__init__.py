"""`darts_assets`: thaw slumps from satellite scenes, as a Dagster asset graph."""
