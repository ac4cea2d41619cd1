"""The processing chain in memory, for training and evaluating the demo model."""

from pathlib import Path

import geopandas as gpd
import xarray as xr

from darts_assets.bands import VISIBLE_NIR, band
from darts_assets.cubes.arcticdem import ArcticDemTiles, arcticdem_spec
from darts_assets.cubes.tcvis import TcvisRasters, tcvis_spec, vintage_for
from darts_assets.demo.world import World
from darts_assets.detection import PostprocessParameters
from darts_assets.detection.postprocess import postprocess
from darts_assets.detection.vectorize import extent_polygons, segments
from darts_assets.features import Convention, PreprocessParameters, dem_buffer
from darts_assets.features.preprocess import preprocess
from darts_assets.model import CheckpointHeader, SegmentParameters
from darts_assets.model.segment import segment
from darts_assets.sources import calibrate, open_raw, parse_item, read_item
from darts_assets.tiles import geobox_of, on_grid


def scene_features(world: World, item: Path, terrain: Convention) -> xr.Dataset:
    """Preprocessed tile of a scene in memory, rounded to the stored values.

    Args:
        world: world with the auxiliary layers.
        item: one of the world's items.
        terrain: convention of the terrain features.
    """
    scene = parse_item(read_item(str(item)))
    optical = calibrate(open_raw(scene, (*VISIBLE_NIR, "s2_scl")))
    parameters = PreprocessParameters(terrain=terrain)
    dem_cube, vintage = arcticdem_spec(10).grid, vintage_for(scene.datetime.year)
    dem_grid = dem_cube.geobox[dem_cube.window(geobox_of(optical), dem_buffer(parameters, 10))]
    tcvis_cube = tcvis_spec(vintage).grid
    tcvis_grid = tcvis_cube.geobox[tcvis_cube.window(geobox_of(optical))]
    dem = on_grid(dict(ArcticDemTiles(str(world.arcticdem)).read_chunk(dem_grid).values), dem_grid)
    tcvis = on_grid(dict(TcvisRasters(world.tcvis).read_chunk(vintage, tcvis_grid).values), tcvis_grid)
    tile = preprocess(optical, dem, tcvis, parameters).collect()
    for name in tile.data_vars:
        codec = band(str(name))
        tile[name].values = codec.decode(codec.encode(tile[name].values))
    return tile


def detect(
    tile: xr.Dataset, model: CheckpointHeader, parameters: SegmentParameters
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """Detections and valid area of a preprocessed tile, with default postprocessing."""
    probabilities = segment(tile, [model], parameters).collect()
    codec = band("probabilities")
    probabilities["probabilities"].values = codec.decode(codec.encode(probabilities["probabilities"].values))
    detections = postprocess(probabilities, tile["quality_data_mask"], PostprocessParameters())
    return segments(detections), extent_polygons(detections)
