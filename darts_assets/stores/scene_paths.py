"""The paths of what a store holds of a scene."""

from darts_assets.errors import StoreError
from darts_assets.stores.latest import LATEST
from darts_assets.stores.location import StoreLocation, checked_name
from darts_assets.stores.publish import Place
from darts_assets.stores.store_layout import raw_folder, raw_place

STEPS = ("raw_scene", "preprocessed_tile", "segmentation", "polygons", "products")
"""The steps of a scene that publish something, in order."""


def scene_paths(root: StoreLocation, scene: str) -> dict[str, str]:
    """The path or URL of the current version of each published step of a scene, in the order of the steps.

    Steps whose values were released are left out.

    Args:
        root: root of the store.
        scene: id of the scene.

    Returns:
        Step -> Zarr store of a raw scene or tile, folder of GeoParquet files (`polygons`), `latest/` of the products.

    Raises:
        StoreError: if nothing of the scene is published, or the store does not respond.
        NotReadableError: if a former release wrote the store and it is not migrated.
    """
    checked_name(scene)
    paths: dict[str, str] = {}
    for source in raw_folder(root).folders():
        if (manifest := (place := raw_place(root, source, scene)).manifest()) and not manifest.released:
            paths["raw_scene"] = place.current_url(manifest)
    for room in ("tiles", "vectors"):
        for family in root.child(room).folders():
            for step in root.child(room, family).folders():
                place = Place(root.child(room, family, step, scene))
                if (manifest := place.manifest()) and not manifest.released:
                    paths[step] = place.current_url(manifest)
    for family in root.child("products").folders():
        if (place := Place(root.child("products", family, scene))).manifest() is not None:
            paths["products"] = place.location.child(LATEST).url
    if not paths:
        raise StoreError(f"nothing of scene {scene} is published in {root}")
    return {step: paths[step] for step in STEPS if step in paths}
