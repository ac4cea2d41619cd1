"""From labels to a checkpoint.

The data: `labels` reads label archives, `images` finds the Planet images they were drawn on, `matching` finds
Sentinel-2 scenes for them, `alignment` shifts outlines onto these, `regions` names where they are, `patches` cuts a
tile and its labels, `samples` keeps the patches of one image, `sets` makes a set of many; `build` does it all for an
image.

The model: `fit_set` reads a set, `splits` divides it, `fit` trains on it, `report` judges what was trained.
"""
