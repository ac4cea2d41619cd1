"""From labels to a checkpoint.

Data: `labels` reads label archives, `labelled_images` locates the Planet images, `matching` selects Sentinel-2 scenes
for them, `alignment` shifts outlines onto these scenes, `regions` assigns administrative regions, `patches` cuts
tiles, `sample_store` stores the patches of an image, `set_store` assembles datasets, `set_builder` combines these for
an image.

Model: `fit/` trains a model on a dataset, `report` evaluates it.
"""
