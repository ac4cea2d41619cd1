"""Where things lie in a store, for readers.

Folders of `StoreLocation.rooms` lie elsewhere. Writers open their places by `replaced_versions.place_at`, which also
keeps replaced versions and `latest/`.
"""

from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place

FAMILIES = ("sentinel2", "planet")
"""Families of scenes, each with a folder of its own."""

CUBE_SUFFIX = ".icechunk"

MOVABLE_ROOMS = ("aux", "raw", "products", "models")
"""Folders that may lie elsewhere than the store."""


def items_folder(root: StoreLocation, family: str) -> StoreLocation:
    """`scenes/<family>`: the STAC items of registered scenes."""
    return root.child("scenes", family)


def raw_folder(root: StoreLocation, *source: str) -> StoreLocation:
    """`raw[/<source>]`: the raw scenes."""
    return root.child("raw", *source)


def tiles_folder(root: StoreLocation, *asset: str) -> StoreLocation:
    """`tiles/<asset>`: the tiles of an asset."""
    return root.child("tiles", *asset)


def vectors_folder(root: StoreLocation, *asset: str) -> StoreLocation:
    """`vectors/<asset>`: the tables of an asset."""
    return root.child("vectors", *asset)


def products_folder(root: StoreLocation, family: str) -> StoreLocation:
    """`products/<family>`: the products of a family."""
    return root.child("products", family)


def cubes_folder(root: StoreLocation) -> StoreLocation:
    """`aux`: the auxiliary cubes."""
    return root.child("aux")


def cube_location(root: StoreLocation, name: str) -> StoreLocation:
    """`aux/<name>.icechunk`: an auxiliary cube."""
    return root.child("aux", name + CUBE_SUFFIX)


def years_folder(root: StoreLocation) -> StoreLocation:
    """`inventory/rts`: the inventories of the years."""
    return root.child("inventory", "rts")


def year_place(root: StoreLocation, year: int) -> Place:
    """`inventory/rts/<year>`: the inventory of a year."""
    return Place(years_folder(root).child(str(year)))


def slumps_place(root: StoreLocation) -> Place:
    """`inventory/slumps`: slumps over the years."""
    return Place(root.child("inventory", "slumps"))


def chips_place(root: StoreLocation) -> Place:
    """`inventory/chips`: chips of the slumps."""
    return Place(root.child("inventory", "chips"))


def dataset_place(root: StoreLocation, name: str) -> Place:
    """`dataset/level1`, `level2` or `coverage`: tables of the data set."""
    return Place(root.child("dataset", name))


def release_places(root: StoreLocation) -> dict[str, Place]:
    """`dataset/release/<version>`: the releases of the data set, by version."""
    folder = root.child("dataset", "release")
    return {version: Place(folder.child(version)) for version in folder.folders()}


def area_samples(root: StoreLocation) -> dict[tuple[int, str], Place]:
    """`area_estimation/sample/<year>/<sample>`: the samples of points, by year and name."""
    folder = root.child("area_estimation", "sample")
    return {
        (int(year), sample): Place(folder.child(year, sample))
        for year in folder.folders()
        for sample in folder.child(year).folders()
    }


def raw_place(root: StoreLocation, source: str, scene: str) -> Place:
    """`raw/<source>/<scene>`: a raw scene."""
    return Place(raw_folder(root, source).child(scene))


def step_folder(root: StoreLocation, family: str, step: str) -> StoreLocation:
    """The folder with the results of a step of a family's scenes, one place for each scene."""
    if step == "products":
        return products_folder(root, family)
    return vectors_folder(root, family, step) if step == "polygons" else tiles_folder(root, family, step)
