"""A SLURM cluster of one node on loopback."""
