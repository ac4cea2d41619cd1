"""Migration of the cubes of earlier versions, by metadata alone; nothing is fetched again."""

from darts_assets.cubes.arcticdem import RESOLUTIONS, arcticdem_spec
from darts_assets.cubes.cube import Cube
from darts_assets.cubes.tcvis import VINTAGES, tcvis_spec
from darts_assets.errors import CubeError
from darts_assets.stores.location import StoreLocation


def migrate_cube(location: StoreLocation) -> bool:
    """Give a cube of an earlier version the metadata with which other programs open it.

    One commit, which other processes see completely or not at all; they may read and fill the cube meanwhile.

    Args:
        location: of the repository, `aux/<cube>.icechunk` of the store.

    Returns:
        Whether the cube was changed; False if it does not exist or was migrated before.

    Raises:
        CubeError: if the folder has not the name of a cube, or the cube another layout.
        UnsafeStoreError: if the object store cannot make concurrent commits safe.
        StoreError: if the store fails; then the cube is as before, and the call can be repeated.
    """
    specs = {s.name: s for s in (*map(arcticdem_spec, RESOLUTIONS), *map(tcvis_spec, VINTAGES))}
    name = location.url.rstrip("/").rpartition("/")[2].removesuffix(".icechunk")
    if name not in specs:
        raise CubeError(f"{location} is not a cube of this version of darts_assets; expected one of {', '.join(specs)}")
    return Cube(location, specs[name]).migrate()
