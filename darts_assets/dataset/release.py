"""A release of the data set: a folder for a journal or a repository, with the same bytes for the same inputs."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import geopandas as gpd
import obstore
import pyogrio
import shapely

from darts_assets.catalog.scene_regions import box_of
from darts_assets.dataset import arts_export, yearly_extents
from darts_assets.dataset import dataset_store as store
from darts_assets.dataset.coverage import (
    CLASS_DESCRIPTIONS,
    CLASSES,
    IMAGE_DESCRIPTIONS,
    UNION_DESCRIPTIONS,
    ClearDays,
    day_classes,
    seen_years,
    write_days,
)
from darts_assets.dataset.published_detections import LEVEL1_DESCRIPTIONS, LEVEL2_DESCRIPTIONS
from darts_assets.dataset.release_documents import (
    ReleaseFacts,
    ReleaseFile,
    citation,
    data_package,
    licence_text,
    readme,
)
from darts_assets.dataset.release_layers import BLUES, REDS, Layer, fields_of, style_by, write_layer
from darts_assets.dataset.release_models import card_text, model_cards, models_of
from darts_assets.dataset.release_parameters import ReleaseParameters
from darts_assets.dataset.release_stac import release_stac
from darts_assets.errors import SettingsError
from darts_assets.inventory.area_intervals import area_by_year
from darts_assets.inventory.table_schemas import DESCRIPTIONS
from darts_assets.review.review_columns import REJECTED
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Manifest, Place
from darts_assets.stores.store_layout import slumps_place, year_place
from darts_assets.stores.vectors import read_table

SUMS = "SHA256SUMS"
_LIBRARIES = ("darts_assets", "geopandas", "numpy", "pandas", "pyarrow", "pyogrio", "pyproj", "rasterio", "shapely")
_AREAS = {**DESCRIPTIONS, "area_ha": "area of the outlines, hectares"}


@dataclass(frozen=True)
class ReleaseInputs:
    """What a release is made from.

    Attributes:
        level1: of `dataset_store.read_level1`, all years of the release.
        level2: likewise.
        sites: `rts_sites` of the inventory, of these years, in its equal-area projection.
        images: footprints of the images, by time.
        days: days per cell of each year.
        models: STAC items of the models, by id.
        versions: of what the inputs were made from, by name.
        parameters: of the steps of the inventory, by name.
    """

    level1: gpd.GeoDataFrame
    level2: gpd.GeoDataFrame
    sites: gpd.GeoDataFrame
    images: gpd.GeoDataFrame
    days: Mapping[int, ClearDays]
    models: Mapping[str, Mapping[str, Any]]
    versions: Mapping[str, str]
    parameters: Mapping[str, Any]


def read_inputs(root: StoreLocation, parameters: ReleaseParameters) -> ReleaseInputs:
    """The inputs of a release in a store.

    Args:
        root: root of the store.
        parameters: of the release.

    Raises:
        SettingsError: if the inventory has no year of the release.
        NotReadableError: if the tables of the data set are missing or older than the inventory.
    """
    inventory = store.inventory_years(root)
    years = released_years(inventory, parameters)
    slumps = slumps_place(root)
    manifest = slumps.require()
    made = manifest.metadata["provenance"]
    versions = store.require_current(root, years)
    level1 = store.read_level1(root, years)
    level2, sites = store.read_level2(root), read_table(slumps, manifest, "rts_sites")
    facts = {year: year_place(root, year).require().metadata["provenance"] for year in years}
    return ReleaseInputs(
        level1=level1,
        level2=level2[level2["year"].isin(years)].reset_index(drop=True),
        sites=sites[sites["year"].isin(years)].reset_index(drop=True),
        images=store.read_images(root, years),
        days=store.read_coverage(root, years),
        models=model_cards(root, models_of(level1["models"])),
        versions=versions,
        parameters={"slumps": made["parameters"], **{f"rts_{year}": facts[year]["parameters"] for year in years}},
    )


def released_years(years: Iterable[int], parameters: ReleaseParameters) -> list[int]:
    """The years of a release, of those in the inventory.

    Raises:
        SettingsError: if there are none.
    """
    first, last = parameters.first_year, parameters.last_year
    chosen = [year for year in sorted(years) if (first or year) <= year <= (last or year)]
    if not chosen:
        raise SettingsError(f"the inventory has no year from {first or 'its first'} to {last or 'its last'}")
    return chosen


def build_release(folder: Path, inputs: ReleaseInputs, parameters: ReleaseParameters) -> ReleaseFacts:
    """Write all files of a release into an empty folder.

    Args:
        folder: destination.
        inputs: of the release, of at least one year.
        parameters: of the release; with authors or an institution.

    Returns:
        What its documents state.

    Raises:
        SettingsError: without an author.
    """
    if not (parameters.authors or parameters.institution):
        raise SettingsError("a release needs `authors` or an `institution`: give them in the config, or in [release]")
    inputs = inputs if parameters.include_rejected else _without_rejected(inputs)
    facts = _facts(inputs)
    groups: dict[str, list[ReleaseFile]] = {}
    for group, file in _written(folder, inputs, parameters, facts):
        groups.setdefault(group, []).append(file)
    files = [file for group in groups.values() for file in group]
    provenance = {
        "inputs": dict(inputs.versions),
        "parameters": {**inputs.parameters, "release": parameters.model_dump(mode="json")},
        "software": dict(facts.software),
    }
    documents = {
        "CITATION.cff": citation(parameters, facts),
        "LICENSE.txt": licence_text(parameters, facts),
        "README.md": readme(parameters, facts, files),
        "datapackage.json": data_package(parameters, facts, files),
        "provenance.json": json.dumps(provenance, indent=1, sort_keys=True) + "\n",
    }
    footprint = shapely.union_all(shapely.set_precision(inputs.images.geometry.to_numpy(), 1e-4))
    for path, document in release_stac(parameters, facts, groups, footprint).items():
        documents[path] = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    for path, text in documents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    sums = {path.relative_to(folder).as_posix(): _sha256(path) for path in folder.rglob("*") if path.is_file()}
    lines = (f"{sha256}  {path}\n" for path, sha256 in sorted(sums.items()))
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return facts


def publish_release(place: Place, folder: Path, metadata: Mapping[str, Any]) -> tuple[Manifest, bool]:
    """Publish a release, unless the version is published: a version never changes.

    Args:
        place: of the version.
        folder: with the files.
        metadata: of the manifest.

    Returns:
        The content, and whether it is new.

    Raises:
        SettingsError: if the version is published with other files.
    """
    sums = _sums((folder / SUMS).read_text(encoding="utf-8"))
    with place.new_version() as version:
        # Read as the only writer, so that two runs cannot publish one version twice.
        if version.base is not None:
            location = place.location.child(version.base.contents[SUMS])
            before = _sums(bytes(obstore.get(location.objects(), SUMS).bytes()).decode())
            if changed := sorted(path for path in sums.keys() | before if sums.get(path) != before.get(path)):
                raise SettingsError(
                    f"{place.location} is published with other content ({len(changed)} files differ, such as "
                    f"{changed[0]}): a release does not change; choose another `version`"
                )
            return version.base, False
        for path in [*sums, SUMS]:
            obstore.put(version.location.objects(), path, folder / path)
        manifest = Manifest(dict.fromkeys([*sums, SUMS], version.id), dict(metadata))
        place.publish(version, manifest.contents, manifest.metadata)
    return manifest, True


def _written(
    folder: Path, inputs: ReleaseInputs, parameters: ReleaseParameters, facts: ReleaseFacts
) -> Iterator[tuple[str, ReleaseFile]]:
    """Write the layers; yields each file with the group that it belongs to."""
    stem = f"{parameters.name}_v{parameters.version.replace('.', '-')}"
    first, last = facts.years
    for group, layer in _layers(inputs, parameters, f"{stem}_{{}}_{first}-{last}"):
        for path in write_layer(folder, layer):
            table = layer.fields if path.suffix != ".qml" else ()
            key = layer.key if table else None
            yield group, _file(folder, path, layer.title if table else f"QGIS style: {layer.title}", table, key)
    if any(counts.blocks for counts in inputs.days.values()):
        path = folder / f"{stem}_coverage_{first}-{last}_days.tif"
        write_days(path, {year: counts for year, counts in inputs.days.items() if counts.blocks})
        title = "Days of each year on which a place was seen clear, one band per year"
        yield "coverage-days", _file(folder, path, title)
    areas = area_by_year(inputs.sites, with_rejected=parameters.include_rejected)
    path = folder / f"{stem}_areas_{first}-{last}.csv"
    areas.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    yield "areas", _file(folder, path, "Area of each year and region, with intervals", fields_of(areas, _AREAS))
    if parameters.arts != "none":
        table = arts_export.arts_table(inputs.sites, parameters)
        path = folder / "arts" / f"{stem}_arts.geojson"
        path.parent.mkdir(parents=True)
        pyogrio.write_dataframe(table, path, driver="GeoJSON", geometry_type="MultiPolygon", promote_to_multi=True)
        title = "Sites in the format of ARTS, to be contributed"
        yield "arts", _file(folder, path, title, fields_of(table, arts_export.DESCRIPTIONS), "UID")
    for name, card in sorted(inputs.models.items()):
        contents = {"json": json.dumps(card, indent=1, sort_keys=True) + "\n", "md": card_text(card)}
        for suffix, text in contents.items():
            path = folder / "models" / f"{name}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            yield "models", _file(folder, path, f"Model {name}" + (", STAC item" if suffix == "json" else ""))


def _layers(inputs: ReleaseInputs, parameters: ReleaseParameters, name: str) -> Iterator[tuple[str, Layer]]:
    """The layers, with the names of their groups; `name` has a place for the kind of content."""
    features, coverage = name.format("features"), name.format("coverage")
    by_year = style_by("year", list(inputs.days), REDS)
    if parameters.profile != "darts":
        title = "Level 1: detections in each image"
        yield "level1", Layer(f"{features}_level1", title, inputs.level1, LEVEL1_DESCRIPTIONS, "id", by_year)
        title = "Level 2: sites of each year"
        yield "level2", Layer(f"{features}_level2", title, inputs.level2, LEVEL2_DESCRIPTIONS, "site_id", by_year)
    if parameters.profile != "darts_assets":
        for number, make, descriptions in (
            (1, yearly_extents.darts_level1, yearly_extents.LEVEL1_DESCRIPTIONS),
            (2, yearly_extents.darts_level2, yearly_extents.LEVEL2_DESCRIPTIONS),
        ):
            what = "footprints in each image" if number == 1 else "maximum extent of each year"
            title = f"Layout of the DARTS database, Level {number}: {what}"
            layer = Layer(f"darts/{features}_level{number}", title, make(inputs.level1), descriptions, "id", by_year)
            yield f"darts-level{number}", layer
    images = Layer(name.format("images"), "Footprints of the images", inputs.images, IMAGE_DESCRIPTIONS, "image_id")
    yield "images", images
    title = "Places by year and class of days on which they were seen clear"
    by_days = style_by("days_from", [days for days, _ in CLASSES], BLUES)
    yield "coverage", Layer(coverage, title, day_classes(inputs.days), CLASS_DESCRIPTIONS, style=by_days)
    title = "Places by the number of years in which they were seen clear"
    union, by_years = seen_years(inputs.days), style_by("years_seen", range(1, len(inputs.days) + 1), BLUES)
    yield "coverage-union", Layer(f"{coverage}_union", title, union, UNION_DESCRIPTIONS, "years_seen", by_years)


def _facts(inputs: ReleaseInputs) -> ReleaseFacts:
    first, last = min(inputs.days), max(inputs.days)
    areas = area_by_year(inputs.sites, with_rejected=True)
    total = areas[(areas["year"] == last) & (areas["region"] == "all")]
    ends = ["area_mean_ha", "area_low_ha", "area_high_ha"]
    images = inputs.images.geometry.to_numpy()
    return ReleaseFacts(
        years=(first, last),
        families=sorted(set(inputs.images["family"])),
        bands=sorted({band["name"] for card in inputs.models.values() for band in card["properties"]["bands"]}),
        counts={"detections": len(inputs.level1), "sites": len(inputs.level2), "images": len(inputs.images)},
        models=sorted(inputs.models),
        bbox=box_of(shapely.union_all(images)) if len(images) else [-180.0, -90.0, 180.0, 90.0],
        cell_m=next(iter(inputs.days.values())).cell,
        software={name: importlib.metadata.version(name) for name in _LIBRARIES},
        area_ha=tuple(float(total[end].iloc[0]) for end in ends) if total[ends].notna().all(axis=None) and len(total)
        else (),
    )  # fmt: skip


def _without_rejected(inputs: ReleaseInputs) -> ReleaseInputs:
    def kept(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
        return table[table["verdict"] != REJECTED].reset_index(drop=True)

    return replace(inputs, level1=kept(inputs.level1), level2=kept(inputs.level2))


def _file(
    folder: Path, path: Path, title: str, fields: Iterable[Mapping[str, Any]] = (), key: str | None = None
) -> ReleaseFile:
    return ReleaseFile(
        path.relative_to(folder).as_posix(), title, path.stat().st_size, _sha256(path), list(fields), key
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sums(text: str) -> dict[str, str]:
    return {path: sha256 for sha256, _, path in (line.partition("  ") for line in text.splitlines())}
