"""`darts-assets map`: the scenes of an area, from a search to their products, in worker processes of this machine."""
