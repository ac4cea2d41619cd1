"""Reads an assembled dataset patch by patch, from a folder or an object store."""

import hashlib
import io
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import obstore
import pandas as pd
import shapely
import torch
import zarr
from pyproj import Geod
from zarr.storage import ObjectStore

from darts_assets.errors import NotReadableError, SettingsError
from darts_assets.features import Convention
from darts_assets.stores.layout import open_band
from darts_assets.stores.location import StoreLocation

IGNORE = 2
"""Label of pixels that neither loss nor metrics count."""

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


def majority(labels: torch.Tensor) -> torch.Tensor:
    """Classes 0, 1 and 2 (int64) of labels; a share of experts is 1 if it is more than half."""
    if not labels.is_floating_point():
        return labels.long()
    return torch.where(labels == IGNORE, IGNORE, (labels > 0.5).long())


@dataclass(frozen=True)
class TrainingSet:
    """An assembled dataset; opening it reads only tables.

    Attributes:
        location: folder with `data.zarr`, `metadata.parquet` and `config.toml`.
        bands: canonical names of the channels of `x`.
        patch_size: side of a patch in pixels.
        terrain: terrain convention of the features.
        normalization: name of the normalization of the features; None if not recorded.
        data_hash: recorded hash of the patches; "" if not recorded.
        samples: one row per patch in the order of the arrays, with `sample_id` and `region`.
    """

    location: StoreLocation
    bands: tuple[str, ...]
    patch_size: int
    terrain: Convention
    normalization: int | str | None
    data_hash: str
    samples: pd.DataFrame

    @classmethod
    def open(cls, location: StoreLocation) -> "TrainingSet":
        """Open the dataset at a location.

        Raises:
            NotReadableError: if a part is missing, or shapes of arrays and tables differ.
        """
        config = tomllib.loads(_bytes(location, "config.toml").decode())
        samples = pd.read_parquet(io.BytesIO(_bytes(location, "metadata.parquet")))
        try:
            opened = cls(
                location, tuple(config["bands"]), int(config["patch_size"]), config["terrain"],
                config.get("normalization"), config.get("data_hash", ""), samples,
            )  # fmt: skip
        except KeyError as error:
            raise NotReadableError(f"training set {location}: config.toml lacks {error}") from None
        missing = {"sample_id", "region"} - set(samples.columns)
        if missing:
            raise NotReadableError(f"training set {location}: metadata.parquet lacks {', '.join(sorted(missing))}")
        side = opened.patch_size
        for name, expected in (("x", (len(samples), len(opened.bands), side, side)), ("y", (len(samples), side, side))):
            shape = opened._array(name).shape
            if shape != expected:
                raise NotReadableError(
                    f"training set {location}: shape of {name} is {shape}, expected {expected} from its tables"
                )
        return opened

    def __len__(self) -> int:
        return len(self.samples)

    def patch(self, number: int) -> tuple[npt.NDArray[np.float32], Labels]:
        """Inputs (bands, rows, columns) in model representation, and labels (rows, columns) of a patch.

        Labels are uint8 0, 1 and 2, or float32 shares of experts in 0..1, and 2. A share that is NaN in the set is 2.

        Raises:
            NotReadableError: for other labels, or inputs that are not finite.
        """
        inputs = np.asarray(self._array("x")[number], dtype=np.float32)
        labels = np.asarray(self._array("y")[number])
        if labels.dtype.kind == "f":
            labels = np.where(np.isnan(labels), IGNORE, labels).astype(np.float32)
            known = ((labels >= 0) & (labels <= 1)) | (labels == IGNORE)
        else:
            known = (labels >= 0) & (labels <= IGNORE)
            labels = labels.astype(np.uint8)
        if not known.all() or not np.isfinite(inputs).all():
            raise NotReadableError(
                f"training set {self.location}: patch {number} has an unknown label or non-finite inputs"
            )
        return inputs, labels

    def columns(self, numbers: Sequence[int], name: str) -> "list[str]":
        """Values of a column of `samples` for patches, as text."""
        return [str(value) for value in self.samples[name].iloc[list(numbers)]]

    def repeated(self, numbers: Sequence[int]) -> dict[int, list[tuple[slice, slice]]]:
        """The windows of patches that an earlier one of them contains, too; none in a set without positions.

        Patches of an image overlap, as do the last ones of a row or column, which end with the image, and so do images
        that were cut from one scene.

        Args:
            numbers: row numbers of patches.

        Returns:
            Row number -> rows and columns within the patch.
        """
        side = self.patch_size
        windows: dict[int, list[tuple[slice, slice]]] = {}
        for _, patches in self.placed(numbers):
            starts = patches[["row", "col"]].to_numpy()
            for index, number in enumerate(patches["number"]):
                offsets = starts[:index] - starts[index]
                near = offsets[(np.abs(offsets) < side).all(axis=1)].tolist()
                windows[int(number)] = [(_within(row, side), _within(col, side)) for row, col in near]
        return windows

    def placed(self, numbers: Sequence[int]) -> Iterable[tuple[Any, pd.DataFrame]]:
        """Patches by the image or scene that they were cut from, in order: `number`, and `row` and `col` in its pixels.

        In a set without positions each patch is an image of its own.
        """
        columns, samples = set(self.samples.columns), self.samples
        image, position = samples["sample_id"], ["row", "col"]
        if not set(position) <= columns:
            samples = samples.assign(row=0, col=0)
            image = pd.Series(range(len(samples)), index=samples.index)
        elif {"scene_id", "grid_row", "grid_col"} <= columns and samples["grid_row"].notna().all():
            position = ["grid_row", "grid_col"]
            image = samples["scene_id"].where(samples["scene_id"] != "", image)
        table = pd.DataFrame({"image": image, "row": samples[position[0]], "col": samples[position[1]]})
        return table.iloc[list(numbers)].assign(number=list(numbers)).groupby("image", sort=False)

    def pixel_area(self, number: int) -> float | None:
        """Area of a pixel of a patch in m2, from the outline of the patch; None in a set without outlines."""
        if "geometry" not in self.samples:
            return None
        outline = shapely.from_wkb(self.samples["geometry"].iloc[number])
        return abs(float(Geod(ellps="WGS84").geometry_area_perimeter(outline)[0])) / self.patch_size**2

    @cached_property
    def experts(self) -> dict[str, float]:
        """Agreement of the experts who labelled the set: `number`, `mean_iou`, `lowest_iou`, `highest_iou` of pairs.

        Empty if there are not several.
        """
        config = tomllib.loads(_bytes(self.location, "config.toml").decode())
        return {str(name): float(value) for name, value in config.get("experts", {}).items()}

    @cached_property
    def digest(self) -> str:
        """The recorded hash of the patches, else SHA-256 over the objects of `data.zarr`."""
        if self.data_hash:
            return self.data_hash
        digest, arrays = hashlib.sha256(), self.location.child("data.zarr")
        objects = arrays.objects()
        for key in sorted(arrays.keys()):
            content = hashlib.sha256(bytes(obstore.get(objects, key).bytes())).hexdigest()
            digest.update(f"{key} {content}\n".encode())
        return digest.hexdigest()

    def _array(self, name: str) -> "zarr.Array[Any]":
        if name not in self._arrays:
            store = ObjectStore(self.location.child("data.zarr").objects(), read_only=True)
            try:
                self._arrays[name] = open_band(store, name)  # a missing chunk raises instead of reading as zeros
            except NotReadableError:
                raise NotReadableError(f"training set {self.location}: data.zarr has no array {name}") from None
        return self._arrays[name]

    @cached_property
    def _arrays(self) -> "dict[str, zarr.Array[Any]]":
        return {}


def _within(start: int, side: int) -> slice:
    """The part of `side` pixels from `start` that lies within 0 to `side`."""
    return slice(max(start, 0), min(start + side, side))


def model_stride(architecture: dict[str, Any]) -> int:
    """The side of a patch must be a multiple of this number of pixels."""
    return int(2 ** int(architecture.get("encoder_depth", 5)))


def check_patch_size(data: TrainingSet, stride: int) -> None:
    """Check that the patch size is a multiple of the stride of the model.

    Raises:
        SettingsError: with both sizes.
    """
    if data.patch_size % stride:
        raise SettingsError(
            f"training set {data.location} has patches of {data.patch_size} pixels; the model needs a multiple of "
            f"{stride}"
        )


def _bytes(location: StoreLocation, name: str) -> bytes:
    try:
        return bytes(obstore.get(location.objects(), name).bytes())
    except FileNotFoundError:
        raise NotReadableError(f"training set {location}: {name} is missing; materialize training/dataset") from None
