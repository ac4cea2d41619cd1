"""Assets, checks, jobs, sensors and resources; the only floor that imports Dagster."""
