"""Datasets of patches: `data.zarr` (`x`, `y`), `metadata.parquet` and `config.toml`, assembled from samples.

    training/<dataset>/samples/<image>/   samples, one per image
    training/<dataset>/set/               assembled dataset

A dataset is assembled in a new version and published in one step, so arrays and tables always have the same length.
Chunks hold one patch each; they are hard-linked on a disk, or copied within the object store, without being read. To
append patches, write more samples and assemble again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import geopandas as gpd
import numpy as np
import obstore
import pandas as pd
from zarr.storage import ObjectStore

from darts_assets.errors import TrainingError
from darts_assets.sources.stac.scene_ids import listed
from darts_assets.stores.layout import open_band
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.training.expert_outlines import pairs_on
from darts_assets.training.leakage import duplicates
from darts_assets.training.sample_store import (
    SampleRecord,
    content_of,
    create_arrays,
    get_table,
    put_table,
    read_record,
)

Progress = Callable[[int, int], None]
"""Called with the number of finished samples and the total."""

_THREADS = 16
_SHOWN = 5  # sentences of a message


@dataclass(frozen=True)
class SetSummary:
    """Summary of an assembled dataset.

    Attributes:
        location: folder with `data.zarr`, `metadata.parquet`, `labels.parquet` and `config.toml`.
        patches: number of patches.
        positive: number of patches with slump pixels.
        samples: number of patches by sample id; 0 if all were dropped.
        dropped: number of dropped patches by reason.
        data_hash: SHA-256 of patches and config.
        experts: agreement of each pair of experts, see `Agreement.pairs`; empty without several experts.
    """

    location: StoreLocation
    patches: int
    positive: int
    samples: dict[str, int]
    dropped: dict[str, int]
    data_hash: str
    experts: pd.DataFrame


@dataclass(frozen=True)
class TrainingSetStore:
    """Samples of a dataset, and the assembled dataset.

    Attributes:
        location: `training/<dataset>` in a store.
    """

    location: StoreLocation

    def sample(self, image_id: str) -> Place:
        """Place of the sample of an image."""
        return Place(self.location.child("samples", image_id))

    @property
    def place(self) -> Place:
        """Place of the assembled dataset."""
        return Place(self.location.child("set"))

    @property
    def current(self) -> StoreLocation:
        """Folder of the assembled dataset.

        Raises:
            NotReadableError: if no dataset has been assembled.
        """
        return self.place.location.child(self.place.require().contents["data.zarr"])

    def sample_ids(self) -> list[str]:
        """Ids of the published samples, sorted."""
        folders = obstore.list_with_delimiter(self.location.objects(), "samples/")["common_prefixes"]
        names = sorted(folder.rstrip("/").rpartition("/")[2] for folder in folders)
        return [name for name in names if self.sample(name).manifest() is not None]

    def assemble(
        self,
        sample_ids: Sequence[str] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
        progress: Progress | None = None,
    ) -> SetSummary:
        """Assemble samples, sorted by id, and publish the dataset.

        Args:
            sample_ids: samples to include; default: all published samples.
            tables: further tables to write as `<name>.parquet`, for example the scores of matches.
            progress: called after each sample.

        Raises:
            TrainingError: if a sample is missing, if parameters differ, if there are no patches, or if two images have
                patches with the same pixels.
            StoreError: if another writer replaced the dataset or a sample.
        """
        records = self._records(sorted(set(sample_ids)) if sample_ids is not None else self.sample_ids())
        config, patches = _common_config(records), sum(record.patches for record in records)
        data_hash = _data_hash(config, records)
        with self.place.new_version() as version:
            create_arrays(version.location, patches, config)
            metadata, labels = self._tables(records)
            if copies := duplicates(metadata):
                raise TrainingError(
                    f"training set {self.location}: {'; '.join(copies[:_SHOWN])}. A copy would be in training and "
                    "validation: leave out one image of each pair"
                )
            agreements = [record.agreement for record in records if record.agreement is not None]
            pairs = pairs_on(agreements)
            parts = {"metadata": metadata, "labels": labels, **(tables or {})}
            if len(pairs):
                parts["experts"] = pairs
            for name, table in parts.items():
                put_table(version.location, f"{name}.parquet", table)
            experts = {"experts": _of_experts(pairs)} if len(pairs) else {}
            toml = as_toml({**config, "patches": patches, "data_hash": data_hash, **experts})
            obstore.put(version.location.objects(), "config.toml", toml.encode())
            self._link_chunks(records, f"set/{version.id}", progress)
            summary = SetSummary(
                version.location, patches, int((~metadata["empty"]).sum()),
                {record.sample_id: record.patches for record in records}, _dropped(records), data_hash, pairs,
            )  # fmt: skip
            facts = {"patches": patches, "data_hash": data_hash, "samples": summary.samples, "config": config}
            files = ("data.zarr", *(f"{name}.parquet" for name in parts), "config.toml")
            self.place.publish(version, dict.fromkeys(files, version.id), facts)
        return summary

    def _records(self, sample_ids: Sequence[str]) -> list[SampleRecord]:
        read = {name: read_record(self.sample(name)) for name in sample_ids}
        if missing := [name for name, record in read.items() if record is None]:
            raise TrainingError(
                f"training set {self.location}: no samples of {listed(missing)}; materialize them first"
            )
        records = [record for record in read.values() if record is not None]
        if not any(record.patches for record in records):
            reasons = ", ".join(f"{count} {reason}" for reason, count in _dropped(records).items())
            raise TrainingError(
                f"training set {self.location}: {len(records)} samples have no patches ({reasons or 'none were cut'})"
            )
        return records

    def _tables(self, records: Sequence[SampleRecord]) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
        kept, labels = [], []
        for record in records:
            place = self.sample(record.sample_id).location.child(record.version)
            try:
                kept.append(get_table(place, "patches.parquet"))
                labels.append(get_table(place, "labels.parquet"))
            except FileNotFoundError as error:
                raise TrainingError(
                    f"training set {self.location}: tables of {record.sample_id} are missing; rebuild it"
                ) from error
            if "content" not in kept[-1]:  # a sample of an earlier release
                kept[-1]["content"] = _contents(place, len(kept[-1]))
        rows = pd.concat([table for table in kept if len(table)], ignore_index=True)
        if len(rows) != sum(record.patches for record in records):
            raise TrainingError(
                f"training set {self.location}: rows and patches of a sample differ; materialize it again"
            )
        return rows, pd.concat([table for table in labels if len(table)] or labels[:1], ignore_index=True)

    def _link_chunks(self, records: Sequence[SampleRecord], target: str, progress: Progress | None) -> None:
        store, first = self.location.objects(), 0
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="chunks") as pool:
            for done, record in enumerate(records, 1):
                source = f"samples/{record.sample_id}/{record.version}"
                keys = (_chunks(number) for number in range(record.patches))
                targets = (_chunks(number) for number in range(first, first + record.patches))
                pairs = zip(chain.from_iterable(keys), chain.from_iterable(targets), strict=True)
                # On a disk, obstore makes a hard link; published objects never change.
                copies = [
                    pool.submit(obstore.copy, store, f"{source}/{key}", f"{target}/{copy}") for key, copy in pairs
                ]
                for copy in copies:
                    try:
                        copy.result()
                    except FileNotFoundError as error:
                        raise TrainingError(
                            f"training set {self.location}: patches of {record.sample_id} are missing; rebuild it"
                        ) from error
                first += record.patches
                if progress:
                    progress(done, len(records))


def as_toml(config: Mapping[str, Any]) -> str:
    """Serialize values and one level of tables; JSON strings, numbers, booleans and lists are valid TOML."""
    lines = [f"{key} = {_value(value)}" for key, value in config.items() if not isinstance(value, Mapping)]
    for name, table in config.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _chunks(number: int) -> tuple[str, str]:
    """Keys of the chunks of a patch in `x` and `y`."""
    return f"data.zarr/x/c/{number}/0/0/0", f"data.zarr/y/c/{number}/0/0"


def _of_experts(pairs: pd.DataFrame) -> dict[str, Any]:
    """The table `experts` of `config.toml`: how well one expert agrees with another."""
    names = {*pairs["expert"], *pairs["other"]}
    figures = {"mean_iou": pairs["iou"].mean(), "lowest_iou": pairs["iou"].min(), "highest_iou": pairs["iou"].max()}
    known = {name: round(float(value), 4) for name, value in figures.items() if value == value}
    return {"number": len(names), **known}


def _contents(sample: StoreLocation, patches: int) -> list[str]:
    """Hashes of the inputs of the patches of a sample."""
    store = ObjectStore(sample.child("data.zarr").objects(), read_only=True)
    inputs = open_band(store, "x")
    return [content_of(np.asarray(inputs[number])) for number in range(patches)]


def _common_config(records: Sequence[SampleRecord]) -> dict[str, Any]:
    config = records[0].config
    for record in records[1:]:
        keys = sorted({*config, *record.config})
        if differing := [key for key in keys if config.get(key) != record.config.get(key)]:
            values = "; ".join(f"{key}: {config.get(key)} and {record.config.get(key)}" for key in differing)
            raise TrainingError(
                f"samples {records[0].sample_id} and {record.sample_id} have different parameters ({values}); "
                "materialize one of them again"
            )
    return config


def _data_hash(config: Mapping[str, Any], records: Sequence[SampleRecord]) -> str:
    content = [(record.sample_id, record.patches, record.content) for record in records]
    return hashlib.sha256(json.dumps([config, content], sort_keys=True).encode()).hexdigest()


def _dropped(records: Sequence[SampleRecord]) -> dict[str, int]:
    reasons = sorted({reason for record in records for reason in record.dropped})
    return {reason: sum(record.dropped.get(reason, 0) for record in records) for reason in reasons}
