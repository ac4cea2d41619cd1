"""Sets of patches: `data.zarr` (`x`, `y`), `metadata.parquet` and `config.toml`, of all samples or of some.

    training/<set>/samples/<image>/   a place for each image
    training/<set>/set/               a place: the assembled set, in the folder that its pointer names

A set is assembled in a version of its own and published in one step, so readers see arrays and tables of one length
whenever a writer is killed. Chunks are not read for that, but linked (on a disk: no second copy is made) or copied
within the object store, which one patch per chunk makes possible. To append is to write more samples and assemble
again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import geopandas as gpd
import obstore
import pandas as pd

from darts_assets.errors import TrainingError
from darts_assets.sources.stac.scene_ids import listed
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.training.sample_store import SampleRecord, create_arrays, get_table, put_table, read_record

Progress = Callable[[int, int], None]
"""Called with samples done and samples in all."""

_AT_ONCE = 16


@dataclass(frozen=True)
class SetSummary:
    """An assembled set.

    Attributes:
        location: the folder with `data.zarr`, `metadata.parquet`, `labels.parquet` and `config.toml`.
        patches: how many.
        positive: how many of them have a slump in them.
        samples: sample id -> patches; with 0 where all were dropped.
        dropped: reason -> patches that were dropped.
        data_hash: SHA-256 of patches and config; the same content has the same.
    """

    location: StoreLocation
    patches: int
    positive: int
    samples: dict[str, int]
    dropped: dict[str, int]
    data_hash: str


@dataclass(frozen=True)
class TrainingSetStore:
    """A set in the making, and as it was last assembled.

    Attributes:
        location: `training/<set>` in a store.
    """

    location: StoreLocation

    def sample(self, image_id: str) -> Place:
        """The place of an image's patches."""
        return Place(self.location.child("samples", image_id))

    @property
    def place(self) -> Place:
        """The place of the assembled set."""
        return Place(self.location.child("set"))

    @property
    def current(self) -> StoreLocation:
        """The folder of the assembled set.

        Raises:
            NotReadableError: if none has been assembled.
        """
        return self.place.location.child(self.place.require().contents["data.zarr"])

    def sample_ids(self) -> list[str]:
        """The images that have been published, sorted."""
        folders = obstore.list_with_delimiter(self.location.objects(), "samples/")["common_prefixes"]
        names = sorted(folder.rstrip("/").rpartition("/")[2] for folder in folders)
        return [name for name in names if self.sample(name).manifest() is not None]

    def assemble(
        self,
        sample_ids: Sequence[str] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
        progress: Progress | None = None,
    ) -> SetSummary:
        """Make one set of samples and publish it, in the order of their ids.

        Args:
            sample_ids: which; all that are published by default.
            tables: kept beside the others as `<name>.parquet`, such as the scores of matches.
            progress: told after each sample.

        Raises:
            TrainingError: if a sample is missing, if they were made with different parameters, or have no patches.
            StoreError: if a later writer has taken over, or a sample was replaced meanwhile.
        """
        records = self._records(sorted(set(sample_ids)) if sample_ids is not None else self.sample_ids())
        config, patches = _common_config(records), sum(record.patches for record in records)
        data_hash = _data_hash(config, records)
        with self.place.new_version() as version:
            create_arrays(version.location, patches, config)
            metadata, labels = self._tables(records)
            parts = {"metadata": metadata, "labels": labels, **(tables or {})}
            for name, table in parts.items():
                put_table(version.location, f"{name}.parquet", table)
            toml = as_toml({**config, "patches": patches, "data_hash": data_hash})
            obstore.put(version.location.objects(), "config.toml", toml.encode())
            self._link_chunks(records, f"set/{version.id}", progress)
            summary = SetSummary(
                version.location, patches, int((~metadata["empty"]).sum()),
                {record.sample_id: record.patches for record in records}, _dropped(records), data_hash,
            )  # fmt: skip
            facts = {"patches": patches, "data_hash": data_hash, "samples": summary.samples, "config": config}
            files = ("data.zarr", *(f"{name}.parquet" for name in parts), "config.toml")
            self.place.publish(version, dict.fromkeys(files, version.id), facts)
        return summary

    def _records(self, sample_ids: Sequence[str]) -> list[SampleRecord]:
        found = {name: read_record(self.sample(name)) for name in sample_ids}
        if missing := [name for name, record in found.items() if record is None]:
            raise TrainingError(f"training set {self.location}: no samples of {listed(missing)}; make them first")
        records = [record for record in found.values() if record is not None]
        if not any(record.patches for record in records):
            said = ", ".join(f"{count} {reason}" for reason, count in _dropped(records).items())
            raise TrainingError(
                f"training set {self.location}: {len(records)} samples have no patches ({said or 'there are none'})"
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
                    f"training set {self.location}: tables of {record.sample_id} are missing; make it again"
                ) from error
        rows = pd.concat([table for table in kept if len(table)], ignore_index=True)
        if len(rows) != sum(record.patches for record in records):
            raise TrainingError(f"training set {self.location}: a sample has other rows than patches; make it again")
        return rows, pd.concat([table for table in labels if len(table)] or labels[:1], ignore_index=True)

    def _link_chunks(self, records: Sequence[SampleRecord], target: str, progress: Progress | None) -> None:
        store, first = self.location.objects(), 0
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="chunks") as pool:
            for done, record in enumerate(records, 1):
                source = f"samples/{record.sample_id}/{record.version}"
                keys = (_chunks(number) for number in range(record.patches))
                aims = (_chunks(number) for number in range(first, first + record.patches))
                pairs = zip(chain.from_iterable(keys), chain.from_iterable(aims), strict=True)
                # `copy` of obstore makes a hard link on a disk; objects are never written twice.
                copies = [pool.submit(obstore.copy, store, f"{source}/{key}", f"{target}/{aim}") for key, aim in pairs]
                for copy in copies:
                    try:
                        copy.result()
                    except FileNotFoundError as error:
                        raise TrainingError(
                            f"training set {self.location}: patches of {record.sample_id} are missing; make it again"
                        ) from error
                first += record.patches
                if progress:
                    progress(done, len(records))


def as_toml(config: Mapping[str, Any]) -> str:
    """Values and one level of tables as TOML; JSON's strings, numbers, booleans and lists are TOML's."""
    lines = [f"{key} = {_value(value)}" for key, value in config.items() if not isinstance(value, Mapping)]
    for name, table in config.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _chunks(number: int) -> tuple[str, str]:
    """Keys of a patch's chunks of `x` and `y`."""
    return f"data.zarr/x/c/{number}/0/0/0", f"data.zarr/y/c/{number}/0/0"


def _common_config(records: Sequence[SampleRecord]) -> dict[str, Any]:
    config = records[0].config
    for record in records[1:]:
        keys = sorted({*config, *record.config})
        if differing := [key for key in keys if config.get(key) != record.config.get(key)]:
            said = "; ".join(f"{key}: {config.get(key)} and {record.config.get(key)}" for key in differing)
            raise TrainingError(
                f"samples {records[0].sample_id} and {record.sample_id} were made with different parameters ({said}); "
                "make one of them again"
            )
    return config


def _data_hash(config: Mapping[str, Any], records: Sequence[SampleRecord]) -> str:
    content = [(record.sample_id, record.patches, record.content) for record in records]
    return hashlib.sha256(json.dumps([config, content], sort_keys=True).encode()).hexdigest()


def _dropped(records: Sequence[SampleRecord]) -> dict[str, int]:
    reasons = sorted({reason for record in records for reason in record.dropped})
    return {reason: sum(record.dropped.get(reason, 0) for record in records) for reason in reasons}
