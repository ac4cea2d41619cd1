"""Chips of slumps through the years: those of the products, and chips drawn from stored tiles.

The table of the last update contains what each chip was made from; a chip is read or drawn again only if that changed.
"""

import hashlib
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import geopandas as gpd
import obstore
import pandas as pd

from darts_assets.detection.chips import (
    BANDS,
    CHIPS_FILE,
    DETECTED,
    NOT_DETECTED,
    ChipRange,
    DrawnChip,
    draw_chips,
    read_directory,
    write_chip_file,
)
from darts_assets.errors import DartsError, NotReadableError
from darts_assets.inventory.table_schemas import CHIP_COLUMNS
from darts_assets.orchestration.core.resources import Store
from darts_assets.stores.bring_in import bring_in_file
from darts_assets.stores.publish import Manifest, Place, Version
from darts_assets.stores.tiles import read_geobox, read_tile
from darts_assets.stores.vectors import read_plain_table, write_plain_table
from darts_assets.tiles import geobox_of

if TYPE_CHECKING:
    import xarray as xr

T = TypeVar("T")

CHIPS = "chips"
"""Name of the table."""

_DRAWING = "1"
"""Increased when chips are drawn in another way."""

_REQUESTS = 16
_BUFFER = 1 << 18  # bytes read at a time from the end of a file of chips


class Scene(NamedTuple):
    """A scene and the version of its polygons."""

    family: str
    id: str
    polygons: str


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip in the store.

    Attributes:
        made_from: identifies its source.
        key: of its file in the store.
        place: its bytes in the file.
    """

    made_from: str
    key: str
    place: ChipRange


@dataclass
class ChipUpdate:
    """Result of an update.

    Attributes:
        table: columns `CHIP_COLUMNS`.
        counts: number of chips that are `kept`, new `from_products`, `drawn`, or missing: `without_tile`.
        problems: scene -> why its chips could not be read or drawn.
    """

    table: pd.DataFrame
    counts: Counter[str] = field(default_factory=Counter)
    problems: dict[str, str] = field(default_factory=dict)


def update_chips(
    store: Store, place: Place, selected: gpd.GeoDataFrame, facts: Callable[[pd.DataFrame], dict[str, Any]]
) -> ChipUpdate:
    """Publish the chips of slumps: `chips.parquet`, and files of the chips that were drawn.

    Args:
        store: the store.
        place: of the chips.
        selected: result of `select_chips`.
        facts: returns the metadata of the manifest for the table.

    Raises:
        StoreError: if another writer has started, or the store does not respond.
    """
    work = _Update(store, place, selected)
    with place.new_version() as version:
        before = _before(place, version.base)
        chips = work.of_products(before)
        chips |= work.drawn(set(range(len(selected))) - chips.keys(), before, version)
        chips = _brought_in(chips, store, place, version)
        table = _table(selected, chips)
        files = {Path(chip.key).name for chip in chips.values() if _is_drawn(chip, store, place)}
        files.add(write_plain_table(version, CHIPS, table))
        place.publish(version, dict.fromkeys(sorted(files), version.id), facts(table))
    return ChipUpdate(table, work.counts, work.problems)


class _Update:
    """Finds or draws the chips of rows."""

    def __init__(self, store: Store, place: Place, selected: gpd.GeoDataFrame) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(("kept", "from_products", "drawn", "without_tile"), 0))
        self.problems: dict[str, str] = {}
        self._store, self._place = store, place
        self._shapes = selected.geometry
        self._detected = selected["detected"].tolist()
        self._regions = selected["region_id"].tolist()
        self._ids = list(zip(selected["slump_id"], selected["year"].tolist(), strict=True))
        facts = (selected[name] for name in ("family", "scene_id", "data_version"))
        self._scenes = [Scene(*values) for values in zip(*facts, strict=True)]

    def of_products(self, before: Mapping[Any, Chip]) -> dict[int, Chip]:
        """Row -> chip of the products, for the detections that have one."""
        rows = [row for row, detected in enumerate(self._detected) if detected]
        files = self._each({self._scenes[row] for row in rows}, self._products_file)
        made_from = {row: f"{key}#{self._regions[row]}" for row in rows if (key := files.get(self._scenes[row]))}
        chips = self._unchanged(made_from, before)
        new = made_from.keys() - chips.keys()
        directories = self._each({self._scenes[row] for row in new}, lambda scene: self._directory(files[scene]))
        for row in sorted(new):
            scene = self._scenes[row]
            if place := directories.get(scene, {}).get(f"{self._regions[row]}"):
                chips[row] = Chip(made_from[row], files[scene], place)
                self.counts["from_products"] += 1
        return chips

    def drawn(self, rows: Iterable[int], before: Mapping[Any, Chip], version: Version) -> dict[int, Chip]:
        """Row -> chip drawn from the stored tile of its scene, now or by an earlier update."""
        rows = sorted(rows)
        tiles = self._each({self._scenes[row] for row in rows}, self._tile)
        made_from = {row: self._hash(row, tile) for row in rows if (tile := tiles.get(self._scenes[row]))}
        chips = self._unchanged(made_from, before)
        by_scene: dict[Scene, list[int]] = defaultdict(list)
        for row in made_from.keys() - chips.keys():
            if not tiles[self._scenes[row]].released:
                by_scene[self._scenes[row]].append(row)
        name = f"drawn-{version.id.rpartition('-')[2]}.zip"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            write_chip_file(path, self._draw(by_scene, tiles))
            with path.open("rb") as file:
                new = {int(row): place for row, place in read_directory(file).items()}
            if new:
                obstore.put(version.location.objects(), name, path)
        key = self._store.root.key_of(version.location.child(name).url)
        self.counts["drawn"] = len(new)
        self.counts["without_tile"] = len(rows) - len(chips) - len(new)
        return chips | {row: Chip(made_from[row], key, place) for row, place in new.items()}

    def _draw(
        self, by_scene: Mapping[Scene, list[int]], tiles: Mapping[Scene, Manifest]
    ) -> Iterator[tuple[str, DrawnChip]]:
        for scene, rows in sorted(by_scene.items()):
            try:
                tile, probabilities = self._opened(scene, tiles[scene])
                for detected in (True, False):
                    chosen = [row for row in sorted(rows) if self._detected[row] == detected]
                    shapes = self._shapes.iloc[chosen].to_crs(str(geobox_of(tile).crs))
                    color = DETECTED if detected else NOT_DETECTED
                    for chip in draw_chips(tile, shapes, probabilities, color=color) if chosen else ():
                        yield f"{chosen[chip.position]}", chip
            except DartsError as error:
                self.problems[scene.id] = str(error)

    def _opened(self, scene: Scene, manifest: Manifest) -> "tuple[xr.Dataset, xr.DataArray | None]":
        """The tile of a scene, and its probabilities if they are stored."""
        names = [name for name in (*BANDS, "quality_data_mask") if name in manifest.contents]
        tile = read_tile(
            self._store.place("tiles", scene.family, "preprocessed_tile", scene.id), names, manifest=manifest
        )
        place = self._store.place("tiles", scene.family, "segmentation", scene.id)
        made = place.manifest()
        if made is None or made.released or read_geobox(place, made) != geobox_of(tile):
            return tile, None
        return tile, read_tile(place, ["probabilities"], manifest=made)["probabilities"]

    def _products_file(self, scene: Scene) -> str | None:
        """Key of the chips of a scene's products, if they were made from the polygons of the inventory."""
        place = self._store.place("products", scene.family, scene.id)
        manifest = place.manifest()
        if manifest is None or CHIPS_FILE not in manifest.contents:
            return None
        if manifest.metadata["provenance"]["inputs"]["polygons"] != scene.polygons:
            return None
        return self._store.root.key_of(place.location.child(manifest.contents[CHIPS_FILE], CHIPS_FILE).url)

    def _directory(self, key: str) -> Mapping[str, ChipRange]:
        *folder, name = key.split("/")
        objects = self._store.root.child(*folder).objects()
        try:
            return read_directory(cast(IO[bytes], obstore.open_reader(objects, name, buffer_size=_BUFFER)))
        except (zipfile.BadZipFile, FileNotFoundError, ValueError) as error:
            raise NotReadableError(f"{key} is not a file of chips: {error}; materialize `products` again") from None

    def _tile(self, scene: Scene) -> Manifest | None:
        return self._store.place("tiles", scene.family, "preprocessed_tile", scene.id).manifest()

    def _hash(self, row: int, tile: Manifest) -> str:
        facts = (_DRAWING, tile.metadata["provenance"]["data_version"], self._detected[row], self._shapes.iloc[row].wkb)
        return hashlib.sha256(repr((self._scenes[row].id, *facts)).encode()).hexdigest()[:32]

    def _unchanged(self, made_from: Mapping[int, str], before: Mapping[Any, Chip]) -> dict[int, Chip]:
        chips = {row: before.get(self._ids[row]) for row in made_from}
        kept = {row: chip for row, chip in chips.items() if chip and chip.made_from == made_from[row]}
        self.counts["kept"] += len(kept)
        return kept

    def _each(self, scenes: Iterable[Scene], read: Callable[[Scene], T | None]) -> dict[Scene, T]:
        """The results for scenes that have one; errors become `problems`."""

        def attempt(scene: Scene) -> T | DartsError | None:
            try:
                return read(scene)
            except DartsError as error:
                return error

        ordered, results = sorted(scenes), dict[Scene, T]()
        with ThreadPoolExecutor(_REQUESTS) as pool:
            for scene, result in zip(ordered, pool.map(attempt, ordered), strict=True):
                if isinstance(result, DartsError):
                    self.problems[scene.id] = str(result)
                elif result is not None:
                    results[scene] = result
        return results


def read_chips(place: Place, manifest: Manifest) -> pd.DataFrame:
    """The published table of chips: columns `CHIP_COLUMNS`.

    Raises:
        NotReadableError: if another run has replaced it since.
    """
    return read_plain_table(place, manifest, CHIPS)


def _before(place: Place, manifest: Manifest | None) -> dict[tuple[str, int], Chip]:
    """Slump and year -> chip of the last update."""
    if manifest is None:
        return {}
    table = read_chips(place, manifest)
    ids = zip(table["slump_id"], table["year"].tolist(), strict=True)
    places = zip(table["offset"].tolist(), table["length"].tolist(), table["width_m"].tolist(), strict=True)
    chips = zip(table["made_from"], table["key"], places, strict=True)
    return {
        one: Chip(made_from, key, ChipRange(*place)) for one, (made_from, key, place) in zip(ids, chips, strict=True)
    }


def _is_drawn(chip: Chip, store: Store, place: Place) -> bool:
    return chip.key.startswith(f"{store.root.key_of(place.location.url)}/")


def _brought_in(chips: Mapping[int, Chip], store: Store, place: Place, version: Version) -> dict[int, Chip]:
    """The chips, with those drawn by earlier updates in this version, which then has their files."""
    here = store.root.key_of(version.location.url)
    keys = {chip.key for chip in chips.values() if _is_drawn(chip, store, place)}
    moved = {}
    for key in sorted(keys):
        *_, earlier, name = key.split("/")
        moved[key] = f"{here}/{name}"
        if earlier != version.id:
            bring_in_file(place.location.child(earlier), version.location, name)
    return {row: replace(chip, key=moved.get(chip.key, chip.key)) for row, chip in chips.items()}


def _table(selected: gpd.GeoDataFrame, chips: Mapping[int, Chip]) -> pd.DataFrame:
    """The table of the rows that have a chip."""
    rows = sorted(chips)
    table = pd.DataFrame(selected.iloc[rows]).rename(columns={"scene_id": "scene"})
    table = table.assign(
        key=[chips[row].key for row in rows],
        offset=[chips[row].place.offset for row in rows],
        length=[chips[row].place.length for row in rows],
        width_m=[chips[row].place.width_m for row in rows],
        made_from=[chips[row].made_from for row in rows],
    )
    return table[list(CHIP_COLUMNS)].astype(CHIP_COLUMNS).reset_index(drop=True)
