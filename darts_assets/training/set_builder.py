"""A set from an archive, image by image: what a partition of `training/dataset` calls.

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
    """How the samples of a set are made.

    Attributes:
        archive: labels and footprints.
        regions: image id -> region, as `regions_of` gives it for footprints indexed by `image_id`.
        store: where the set is.
        patches: sizes and filters.
        flavour: what the images are.
        alignment: of labels with matched scenes; None: labels are not moved.
    """

    archive: LabelArchive
    regions: "pd.Series[str]"
    store: TrainingSetStore
    patches: PatchParameters
    flavour: Flavour
    alignment: AlignmentParameters | None = field(default_factory=AlignmentParameters)

    def add(self, image: str, tile: xr.Dataset, inputs: str = "") -> SampleRecord:
        """The patches of a Planet image, published.

        Args:
            image: its id.
            tile: its preprocessed tile, lazy.
            inputs: what changes when the tile does.

        Raises:
            TrainingError: if the archive has no footprint of it, or the tile lies elsewhere.
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
        """The patches of the part of a Sentinel-2 scene that a Planet image shows, published.

        Args:
            image: the Planet image's id.
            scene: the scene's id.
            tile: the scene's preprocessed tile, lazy; only what the footprint spans is read.
            drawn_on: the band of the Planet image that labels are aligned by (`alignment.band`), in the tile's units
                or others; None where the image cannot be had: its labels are used as they are, and flagged.
            inputs: what changes when tile or image do.
            facts: more columns of the metadata, such as score and days of the match; JSON types.

        Raises:
            TrainingError: if the archive has no footprint of the image, or the tile lies elsewhere.
            RasterError: if the tile lacks a band.
        """
        part = self._under_footprint(image, tile)
        given = {"alignment": asdict(self.alignment) if self.alignment else None, "image": drawn_on is not None}
        inputs = json.dumps([inputs, given], sort_keys=True)
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
            raise RasterError(f"scene {scene}: its tile has no band {self.alignment.band}, which labels are aligned by")
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
        """The rows and columns of a tile that the bounds of a footprint span."""
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
                f"image {image}: its footprint does not meet the tile, which spans {grid.extent.boundingbox}"
            )


def _offsets(labels: gpd.GeoDataFrame) -> dict[str, Any]:
    """How many outlines there are and were moved, and by what: the median; NaN where none was."""
    moved = labels["aligned"].astype(bool)
    median = labels.loc[moved, ["shift_x", "shift_y"]].median()
    return {
        "labels": len(labels),
        "labels_aligned": int(moved.sum()),
        "shift_x": float(median["shift_x"]),
        "shift_y": float(median["shift_y"]),
    }
