"""Samples: the patches of one image, from which datasets are assembled.

A sample has `data.zarr` (`x` and `y`, one patch per chunk), `patches.parquet` and `labels.parquet`, published together.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import obstore
import pandas as pd
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec
from zarr.storage import ObjectStore

from darts_assets.bands import band
from darts_assets.model.patch_grid import PatchAxis
from darts_assets.stores.layout import FreshStore
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.tiles import geobox_of
from darts_assets.training.expert_outlines import EXPERT, Agreement, agreement_on
from darts_assets.training.labels import CRS
from darts_assets.training.patches import Patch, PatchCounts, cut, slumps_of
from darts_assets.training.sample_parameters import PatchParameters

Flavour = Literal["planet-archive", "planet-pingo", "sentinel2"]
"""Planet images in the archive layout or located anywhere, or Sentinel-2 scenes matched to their footprints."""

NORMALIZATION = "valid-range-1"
"""`Band.to_model` with the ranges in `config.toml`; the number is a version of the formula."""

AGREEMENT = "agreement"
"""`labels` in the config of sets whose `y` is the share of experts."""

_FORMAT = 1
_DEFAULT_TERRAIN = "darts-2025"  # of tiles without a convention


Placement = Callable[[gpd.GeoDataFrame], tuple[gpd.GeoDataFrame, dict[str, Any]]]
"""Shifts outlines onto a tile; returns them with metadata of JSON types."""


@dataclass(frozen=True)
class Origin:
    """Origin of the patches of an image, written to each row of a dataset's metadata.

    Attributes:
        image_id: Planet id of the labelled image.
        region: administrative region.
        scene_id: matched scene that provides the pixels; "" if the image itself does.
        inputs: data version of the tile; with labels and parameters it decides whether patches are up to date.
        facts: further columns, JSON types only.
    """

    image_id: str
    region: str
    scene_id: str = ""
    inputs: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleRecord:
    """Published sample of an image.

    Attributes:
        sample_id: image id.
        fingerprint: hash of all inputs.
        content: SHA-256 of the patches.
        patches: number of patches.
        dropped: number of dropped patches by reason.
        config: parameters that all samples of a dataset share.
        version: version in the store.
        experts: names of the experts, if several labelled the image.
        joint: number of pixels that each pair of them outlined, see `Agreement`.
    """

    sample_id: str
    fingerprint: str
    content: str
    patches: int
    dropped: dict[str, int]
    config: dict[str, Any]
    version: str
    experts: tuple[str, ...] = ()
    joint: tuple[tuple[int, ...], ...] = ()

    @property
    def agreement(self) -> Agreement | None:
        """Agreement of the experts on the image; None without several experts."""
        if not self.experts:
            return None
        return Agreement(tuple(self.experts), np.array(self.joint, dtype=np.int64))


def write_sample(
    place: Place,
    tile: xr.Dataset,
    labels: gpd.GeoDataFrame,
    footprint: gpd.GeoSeries | None,
    origin: Origin,
    parameters: PatchParameters,
    flavour: Flavour,
    placement: Placement | None = None,
    experts: Sequence[str] = (),
) -> SampleRecord:
    """Cut a tile and publish its patches, unless the published sample has the same inputs.

    An image whose patches are all dropped is published without patches.

    Args:
        place: destination, from `TrainingSetStore.sample`.
        tile: preprocessed tile, lazy; see `cut`.
        labels: outlines of this image, see `cut`; all columns are kept.
        footprint: labelled area; None: the whole tile.
        origin: origin of the patches.
        parameters: sizes and filters.
        flavour: flavour of the dataset.
        placement: shifts the labels; its parameters must be part of `origin.inputs`.
        experts: names of several experts; see `cut`.

    Raises:
        RasterError: if the tile lacks a band.
        StoreError: if another writer replaced the sample.
    """
    config = _config(tile, parameters, flavour, experts)
    fingerprint = _fingerprint(config, labels, footprint, origin, experts)
    published = read_record(place)
    if published is not None and published.fingerprint == fingerprint:
        return published
    placed, offsets = placement(labels) if placement else (labels, {})
    counts = PatchCounts()
    with place.new_version() as version:
        content, rows = _write_arrays(version.location, tile, placed, footprint, parameters, config, counts, experts)
        joint = agreement_on(tile, placed, footprint, experts).joint.tolist() if experts else []
        common = {"sample_id": origin.image_id, "image_id": origin.image_id, "scene_id": origin.scene_id}
        table = gpd.GeoDataFrame(
            [{**common, "region": origin.region, **row, **offsets, **origin.facts} for row in rows] or None,
            geometry="geometry" if rows else [], crs=CRS,
        )  # fmt: skip
        put_table(version.location, "patches.parquet", table)
        put_table(version.location, "labels.parquet", placed.to_crs(CRS).assign(**common))
        dropped = dict(sorted(counts.dropped.items()))
        record = SampleRecord(
            origin.image_id, fingerprint, content, counts.kept, dropped, config, version.id,
            tuple(experts), tuple(map(tuple, joint)),
        )  # fmt: skip
        facts = {name: value for name, value in asdict(record).items() if name != "version"}
        place.publish(
            version, dict.fromkeys(("data.zarr", "patches.parquet", "labels.parquet"), version.id), {"sample": facts}
        )
    return record


def read_record(place: Place) -> SampleRecord | None:
    """What is published of an image, None if nothing is."""
    manifest = place.manifest()
    if manifest is None:
        return None
    facts = dict(manifest.metadata["sample"])
    experts, joint = tuple(facts.pop("experts", ())), tuple(map(tuple, facts.pop("joint", ())))
    return SampleRecord(**facts, version=manifest.contents["data.zarr"], experts=experts, joint=joint)


def create_arrays(location: StoreLocation, patches: int, config: Mapping[str, Any]) -> "tuple[zarr.Array[Any], ...]":
    """Create `x` and `y` in `data.zarr` for a number of patches, one patch per chunk."""
    group = zarr.create_group(FreshStore(ObjectStore(location.child("data.zarr").objects())), zarr_format=3)
    side, bands = int(config["patch_size"]), list(config["bands"])

    def create(name: str, shape: tuple[int, ...], dtype: str, dims: list[str], **attributes: Any) -> "zarr.Array[Any]":
        return group.create_array(
            name,
            shape=(patches, *shape),
            chunks=(1, *shape),
            dtype=dtype,
            compressors=BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
            dimension_names=dims,
            attributes=attributes,
            # Patches of background only are written too: a missing chunk is always damage.
            config={"write_empty_chunks": True},
        )

    space = ["row", "col"]
    x = create("x", (len(bands), side, side), "float32", ["patch", "band", *space], bands=bands)
    if config.get("labels") == AGREEMENT:
        y = create("y", (side, side), "float32", ["patch", *space], long_name="share of experts who outlined a slump")
    else:
        y = create("y", (side, side), "uint8", ["patch", *space], classes=["background", "slump", "ignored"])
    return x, y


def put_table(location: StoreLocation, name: str, table: pd.DataFrame) -> None:
    """Write a table as Parquet, or as GeoParquet if it has geometries."""
    buffer = BytesIO()
    table.to_parquet(buffer, index=False)
    obstore.put(location.objects(), name, buffer.getvalue())


def get_table(location: StoreLocation, name: str) -> gpd.GeoDataFrame:
    """Read a GeoParquet file."""
    return gpd.read_parquet(BytesIO(bytes(obstore.get(location.objects(), name).bytes())))


def _write_arrays(
    location: StoreLocation,
    tile: xr.Dataset,
    labels: gpd.GeoDataFrame,
    footprint: gpd.GeoSeries | None,
    parameters: PatchParameters,
    config: Mapping[str, Any],
    counts: PatchCounts,
    experts: Sequence[str],
) -> tuple[str, list[dict[str, Any]]]:
    """Write patches one at a time; returns the hash of their content, and a row for each."""
    axes = [PatchAxis(tile.sizes[axis], 0, parameters.patch_size, parameters.overlap) for axis in ("y", "x")]
    most = len(axes[0].starts) * len(axes[1].starts)
    x, y = create_arrays(location, most, config)
    content, grid = hashlib.sha256(), geobox_of(tile)
    rows: list[dict[str, Any]] = []
    for patch in cut(tile, labels, footprint, parameters, counts, experts):
        number = len(rows)
        x[number], y[number] = patch.x, patch.y
        content.update(patch.x.data)
        content.update(patch.y.data)
        rows.append({**_row(patch, number), **_position(grid, patch), "content": content_of(patch.x)})
    for array in (x, y):
        array.resize((len(rows), *array.shape[1:]))
    return content.hexdigest(), rows


def _row(patch: Patch, number: int) -> dict[str, Any]:
    slump, ignored = float(slumps_of(patch.y).mean()), float(patch.ignored.mean())
    return {
        "patch": number,
        "row": patch.row,
        "col": patch.col,
        "empty": patch.empty,
        "slump_share": round(slump, 6),
        "ignored_share": round(ignored, 6),
        "geometry": patch.geometry,
    }


def content_of(inputs: npt.NDArray[np.float32]) -> str:
    """Hash of the inputs of a patch, by which copies are found: 16 hexadecimal digits; "" if all bands are constant.

    Args:
        inputs: (bands, rows, columns).
    """
    if bool((inputs == inputs[:, :1, :1]).all()):
        return ""
    return hashlib.sha256(np.ascontiguousarray(inputs).data).hexdigest()[:16]


def _position(grid: GeoBox, patch: Patch) -> dict[str, int]:
    """First row and column of a patch on the pixel lattice of the CRS, which images of one scene share."""
    x, y = grid.affine @ (patch.col, patch.row)
    return {"grid_row": -round(y / grid.resolution.x), "grid_col": round(x / grid.resolution.x)}


def _config(tile: xr.Dataset, parameters: PatchParameters, flavour: Flavour, experts: Sequence[str]) -> dict[str, Any]:
    """Parameters that all samples of a dataset must share."""
    filters = parameters.model_dump(include={"min_visible", "exclude_nan", "exclude_nopositive"})
    radii = {name: tile.attrs[name] for name in ("tpi_outer_radius", "tpi_inner_radius") if name in tile.attrs}
    return {
        "format": _FORMAT,
        "flavour": flavour,
        "bands": list(parameters.bands),
        "patch_size": parameters.patch_size,
        "overlap": parameters.overlap,
        "terrain": tile.attrs.get("terrain", _DEFAULT_TERRAIN),
        **radii,
        "normalization": NORMALIZATION,
        **({"labels": AGREEMENT} if experts else {}),
        "filters": filters,
        "valid_ranges": {name: [float(limit) for limit in band(name).valid] for name in parameters.bands},
    }


def _fingerprint(
    config: Mapping[str, Any],
    labels: gpd.GeoDataFrame,
    footprint: gpd.GeoSeries | None,
    origin: Origin,
    experts: Sequence[str],
) -> str:
    digest = hashlib.sha256(json.dumps([config, asdict(origin)], sort_keys=True, default=str).encode())
    digest.update(str(labels.crs).encode())
    for shape in labels.geometry.to_wkb():
        digest.update(shape)
    classes = labels["label"] if "label" in labels else np.ones(len(labels))
    digest.update(np.asarray(classes, dtype=np.int64).tobytes())
    if experts:
        digest.update(json.dumps([list(experts), [str(name) for name in labels[EXPERT]]]).encode())
    if footprint is not None:
        digest.update(str(footprint.crs).encode())
        for shape in footprint.to_wkb():
            digest.update(shape)
    return digest.hexdigest()
