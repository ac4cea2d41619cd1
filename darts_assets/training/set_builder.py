"""Build the samples of a dataset from a label archive, image by image.

archive = read_archive(folder)
builder = SetBuilder(archive, regions_of(...), TrainingSetStore(...), PatchParameters(), "planet-archive")
builder.add(image, read_tile(place), inputs=version)          # Planet: the image itself
builder.add_matched(image, scene, read_tile(place), ...)      # Sentinel-2: the scene that was matched to it
builder.store.assemble()
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import xarray as xr

from darts_assets.errors import RasterError, TrainingError
from darts_assets.tiles import geobox_of
from darts_assets.training.alignment import AlignmentParameters, align_labels, unaligned
from darts_assets.training.labels import CRS, LabelArchive
from darts_assets.training.regions import NO_REGION
from darts_assets.training.sample_parameters import PatchParameters
from darts_assets.training.sample_store import Flavour, Origin, Placement, SampleRecord, write_sample
from darts_assets.training.set_store import TrainingSetStore


@dataclass(frozen=True)
class SetBuilder:
    """Writes the samples of a dataset.

    Attributes:
        archive: labels and footprints.
        regions: region by image id, from `regions_of` with footprints indexed by `image_id`.
        store: destination.
        patches: sizes and filters.
        flavour: kind of the images.
        alignment: alignment of labels with matched scenes; None: labels are not shifted.
    """

    archive: LabelArchive
    regions: "pd.Series[str]"
    store: TrainingSetStore
    patches: PatchParameters
    flavour: Flavour
    alignment: AlignmentParameters | None = field(default_factory=AlignmentParameters)

    def add(self, image: str, tile: xr.Dataset, inputs: str = "") -> SampleRecord:
        """Cut and publish the patches of a Planet image.

        Args:
            image: image id.
            tile: preprocessed tile of the image, lazy.
            inputs: data version of the tile.

        Raises:
            TrainingError: if the archive has no footprint of the image, or it does not intersect the tile.
            RasterError: if the tile lacks a band.
        """
        return self._write(image, tile, self.archive.of_image(image), Origin(image, self._region(image), inputs=inputs))

    def add_matched(
        self,
        image: str,
        scene: str,
        tile: xr.Dataset,
        drawn_on: xr.DataArray | None,
        inputs: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> SampleRecord:
        """Cut and publish the patches of a Sentinel-2 scene within the footprint of a Planet image.

        Args:
            image: id of the Planet image.
            scene: id of the scene.
            tile: preprocessed tile of the scene, lazy; only the bounds of the footprint are read.
            drawn_on: band of the Planet image for the alignment (`alignment.band`), in any unit; None if it is not
                available: labels are then used unshifted and flagged.
            inputs: data versions of tile and image.
            facts: further metadata columns, for example score and days of the match; JSON types.

        Raises:
            TrainingError: if the archive has no footprint of the image, or it does not intersect the tile.
            RasterError: if the tile lacks a band.
        """
        part = self._under_footprint(image, tile)
        options = {"alignment": asdict(self.alignment) if self.alignment else None, "image": drawn_on is not None}
        inputs = json.dumps([inputs, options], sort_keys=True)
        origin = Origin(image, self._region(image), scene, inputs, dict(facts or {}))

        def place(labels: gpd.GeoDataFrame) -> tuple[gpd.GeoDataFrame, dict[str, Any]]:
            moved = self._moved(labels, scene, part, drawn_on)
            return moved, _offsets(moved)

        return self._write(image, part, self.archive.of_image(image), origin, place)

    def _moved(
        self, labels: gpd.GeoDataFrame, scene: str, part: xr.Dataset, drawn_on: xr.DataArray | None
    ) -> gpd.GeoDataFrame:
        if self.alignment is None:
            return unaligned(labels, "not wanted")
        if drawn_on is None:
            return unaligned(labels, "no image")
        if self.alignment.band not in part:
            raise RasterError(f"scene {scene}: the tile has no band {self.alignment.band}, which the alignment needs")
        return align_labels(labels, drawn_on, part[self.alignment.band], self.alignment)

    def _write(
        self, image: str, tile: xr.Dataset, labels: gpd.GeoDataFrame, origin: Origin, placement: Placement | None = None
    ) -> SampleRecord:
        footprint = self._footprint(image)
        self._check_overlap(image, tile, footprint)
        place = self.store.sample(image)
        return write_sample(place, tile, labels, footprint, origin, self.patches, self.flavour, placement)

    def _footprint(self, image: str) -> gpd.GeoSeries:
        return gpd.GeoSeries([self.archive.footprint(image)], crs=CRS)

    def _region(self, image: str) -> str:
        return str(self.regions.get(image, NO_REGION))

    def _under_footprint(self, image: str, tile: xr.Dataset) -> xr.Dataset:
        """The part of a tile within the bounds of the footprint."""
        grid, footprint = geobox_of(tile), self._footprint(image)
        self._check_overlap(image, tile, footprint)
        left, bottom, right, top = footprint.to_crs(str(grid.crs)).total_bounds
        cols, rows = grid.wld2pix(np.array([left, right]), np.array([top, bottom]))
        window = [
            slice(max(0, int(np.floor(ends.min()))), min(length, int(np.ceil(ends.max()))))
            for ends, length in zip((rows, cols), grid.shape, strict=True)
        ]
        return tile.isel(y=window[0], x=window[1])

    def _check_overlap(self, image: str, tile: xr.Dataset, footprint: gpd.GeoSeries) -> None:
        grid = geobox_of(tile)
        if not footprint.to_crs(str(grid.crs)).intersection(grid.extent.geom).area.sum() > 0:
            raise TrainingError(
                f"image {image}: the footprint does not intersect the tile, which covers {grid.extent.boundingbox}"
            )


def _offsets(labels: gpd.GeoDataFrame) -> dict[str, Any]:
    """Number of outlines and of aligned outlines, and their median shift (NaN without any)."""
    moved = labels["aligned"].astype(bool)
    median = labels.loc[moved, ["shift_x", "shift_y"]].median()
    return {
        "labels": len(labels),
        "labels_aligned": int(moved.sum()),
        "shift_x": float(median["shift_x"]),
        "shift_y": float(median["shift_y"]),
    }
