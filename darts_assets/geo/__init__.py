"""Areas of interest, and geometry near the antimeridian."""
