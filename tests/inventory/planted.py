"""Scenes with planted detections: rectangles on a grid of 10 m pixels, as the chain would have found them."""

import datetime as dt
from dataclasses import dataclass, field

import geopandas as gpd
import shapely

from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.table_schemas import SceneRecord
from darts_assets.inventory.yearly_inventory import Inventory, empty_inventory, update

WEST, SOUTH = 500_000, 7_600_000  # of UTM zones near their central meridian, 68.5 degrees north

BLOCK = 2560  # metres


def square(x: float, y: float, side: float = 100) -> shapely.Polygon:
    """A square by its lower left corner, metres from `WEST, SOUTH`."""
    return shapely.box(WEST + x, SOUTH + y, WEST + x + side, SOUTH + y + side)


@dataclass
class Planted:
    """One scene.

    Attributes:
        day: of the year, which makes its date and id.
        detections: outlines; with a probability and whether the border cuts them, or just as they are.
        extent: the valid area; None where everything was clouded.
        epsg: of all outlines.
        family: of the scene.
        version: of its polygons.
        clouds: on the valid area; None for polygons of a version that did not tell.
    """

    day: int
    detections: list[shapely.Polygon | tuple[shapely.Polygon, float, bool]] = field(default_factory=list)
    extent: shapely.Geometry | None = field(default_factory=lambda: square(-5000, -5000, 10_000))
    epsg: int = 32608
    family: str = "sentinel2"
    version: str = "1"
    year: int = 2023
    clouds: shapely.Geometry | None = None

    @property
    def id(self) -> str:
        return f"{self.family}-{self.time:%Y%m%d}-{self.epsg}"

    @property
    def time(self) -> dt.datetime:
        return dt.datetime(self.year, 1, 1, 20, tzinfo=dt.UTC) + dt.timedelta(days=self.day)

    @property
    def record(self) -> SceneRecord:
        return SceneRecord(self.id, self.family, self.time, self.version)

    def segments(self) -> gpd.GeoDataFrame:
        full = [each if isinstance(each, tuple) else (each, 0.8, False) for each in self.detections]
        columns = {
            "Region_ID": range(1, len(full) + 1),
            "touches_edge": [cut for _, _, cut in full],
            "mean": [mean for _, mean, _ in full],
        }
        if self.clouds is not None:
            columns["clear_fraction"] = [1 - (shape & self.clouds).area / shape.area for shape, _, _ in full]
        return gpd.GeoDataFrame(
            columns,
            geometry=[shape for shape, _, _ in full],
            crs=self.epsg,
        )

    def valid_area(self) -> gpd.GeoDataFrame:
        parts = [] if self.extent is None else list(shapely.get_parts(self.extent))
        return gpd.GeoDataFrame(geometry=parts, crs=self.epsg)

    def observed(self) -> gpd.GeoDataFrame:
        """The clear part of the valid area in blocks, as the chain writes it."""
        if self.clouds is None or self.extent is None:
            return self.valid_area()
        west, south, east, north = self.extent.bounds
        blocks = [
            shapely.box(x, y, x + BLOCK, y + BLOCK) & (self.extent - self.clouds)
            for x in range(int(west), int(east), BLOCK)
            for y in range(int(south), int(north), BLOCK)
        ]
        return gpd.GeoDataFrame(geometry=[block for block in blocks if not block.is_empty], crs=self.epsg)


class Tables:
    """The polygons of planted scenes; remembers which were read."""

    def __init__(self, scenes: list[Planted]) -> None:
        self.scenes = {scene.id: scene for scene in scenes}
        self.read: list[str] = []

    def segments(self, scene_id: str) -> gpd.GeoDataFrame:
        self.read.append(scene_id)
        return self.scenes[scene_id].segments()

    def observed(self, scene_id: str) -> gpd.GeoDataFrame:
        return self.scenes[scene_id].observed()


def brought_to(inventory: Inventory, scenes: list[Planted]) -> Inventory:
    return update(inventory, [scene.record for scene in scenes], Tables(scenes))[0]


def built(scenes: list[Planted], **parameters: object) -> Inventory:
    """The inventory of some scenes, from scratch."""
    return brought_to(empty_inventory(2023, InventoryParameters(**parameters)), scenes)


def assert_same(one: Inventory, other: Inventory) -> None:
    """Equal in every value, to the last bit."""
    for name in ("scenes", "detections", "sites"):
        left, right = getattr(one, name), getattr(other, name)
        assert list(left.columns) == list(right.columns)
        assert left.dtypes.astype(str).to_dict() == right.dtypes.astype(str).to_dict()
        plain = [column for column in left.columns if column != "geometry"]
        assert left[plain].equals(right[plain]), (left[plain], right[plain])
        if "geometry" in left:
            assert (left.geometry.to_wkb() == right.geometry.to_wkb()).all()
            assert left.crs == right.crs
