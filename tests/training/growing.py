"""A run that adds images to a set for as long as it lives: `python growing.py <set>`. `test_sets` kills it."""

import sys

from conftest import make_tile, outlines, pixels

from darts_assets.stores.location import StoreLocation
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import Origin, write_sample
from darts_assets.training.set_store import TrainingSetStore

store = TrainingSetStore(StoreLocation(sys.argv[1]))
labels = outlines(pixels(slice(10, 20), slice(50, 60)))
for number in range(len(store.sample_ids()), 90):
    image = f"image-{number:02d}"
    parameters = PatchParameters(patch_size=64, overlap=16)
    write_sample(store.sample(image), make_tile(seed=number), labels, None, Origin(image, "x"), parameters, "sentinel2")
    print(store.assemble().patches, flush=True)
