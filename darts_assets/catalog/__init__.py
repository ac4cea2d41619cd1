"""The published catalog: results as a STAC tree and as one table of detections, for programs that know nothing of us.

It is made of what `products` has published in the store. `stac.update_stac` and `detections.update_detections` write
only what has changed.
"""
