"""The published catalog: results as a STAC tree and as a table of detections.

`stac_tree.update_stac` and `detections.update_detections` update it to the published products.
"""
