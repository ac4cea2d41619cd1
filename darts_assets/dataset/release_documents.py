"""The documents of a release: README, citation, licence, and the data package that describes every file and column."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from darts_assets.bands import TCVIS, TERRAIN
from darts_assets.dataset.release_parameters import ReleaseParameters

_LICENCES: Mapping[str, tuple[str, str]] = {
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0 International", "https://creativecommons.org/licenses/by/4.0/legalcode"
    ),
    "CC-BY-SA-4.0": (
        "Creative Commons Attribution-ShareAlike 4.0 International",
        "https://creativecommons.org/licenses/by-sa/4.0/legalcode",
    ),
    "CC0-1.0": (
        "Creative Commons Zero 1.0 Universal", "https://creativecommons.org/publicdomain/zero/1.0/legalcode"
    ),
    "ODbL-1.0": ("Open Data Commons Open Database License 1.0", "https://opendatacommons.org/licenses/odbl/1-0/"),
}  # fmt: skip
_ORCID = re.compile(r"\((?:https://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])\)\s*$")
_DARTS = (
    "Nitze, I. et al. (2025): DARTS: Multi-year database of AI-detected retrogressive thaw slumps in the circum-arctic "
    "permafrost region. Scientific Data 12, 1512, doi:10.1038/s41597-025-05810-2"
)


_OWN_LEVELS = """\
- **Level 1**: each detection in each image, with its time. Detections that the inventory does not count, mostly under
  cloud, are left out.
- **Level 2**: the sites of each year: overlapping detections of all images, with the number of images that detect and
  that observe the site (`seen` of `observable`). The outline contains what most of the observing images detect.
  `area_low_ha` and `area_high_ha` are the 95 % interval of `area_mean_ha`; `area_25_ha` to `area_75_ha` show how
  certain the outline is. `slump_id` follows a slump through the years; `change` compares a year with the one before,
  against these intervals."""
_DARTS_LEVELS = """\
- **`darts/`**: the same detections in the layout of the DARTS database: Level 2 is the maximum extent of each year,
  that is Level 1 dissolved by `year`, with the probabilities `pval_*`."""


@dataclass(frozen=True)
class ReleaseFile:
    """A file of a release.

    Attributes:
        path: relative to the release.
        title: in a line.
        bytes: its size.
        sha256: hash of its content.
        fields: its columns, as a Table Schema.
        key: its unique column.
    """

    path: str
    title: str
    bytes: int
    sha256: str
    fields: Sequence[Mapping[str, Any]] = ()
    key: str | None = None


@dataclass(frozen=True)
class ReleaseFacts:
    """What the documents state about a release.

    Attributes:
        years: first and last year.
        families: of the images.
        bands: of the models.
        counts: such as `detections`, `sites`, `images` -> number.
        area_ha: area of the sites of the last year, with the ends of its interval; empty without one.
        models: ids of the models.
        bbox: west, south, east, north, degrees.
        cell_m: side of the cells of the coverage, metres.
        software: name -> version.
    """

    years: tuple[int, int]
    families: Sequence[str]
    bands: Sequence[str]
    counts: Mapping[str, int]
    models: Sequence[str]
    bbox: Sequence[float]
    cell_m: float
    software: Mapping[str, str]
    area_ha: Sequence[float] = field(default_factory=tuple)

    @property
    def period(self) -> str:
        """The years, as `2021-2023` or `2023`."""
        first, last = self.years
        return f"{first}-{last}" if first != last else str(first)


def attributions(facts: ReleaseFacts) -> list[str]:
    """The notices that the providers of the images and auxiliary data ask for, of those in use."""
    notices = []
    if "sentinel2" in facts.families:
        notices.append(f"Contains modified Copernicus Sentinel data {facts.period}.")
    if "planet" in facts.families:
        notices.append(f"Derived from PlanetScope images, (c) Planet Labs PBC {facts.period}; no image is included.")
    if set(TERRAIN) & set(facts.bands):
        notices.append(
            "Terrain: ArcticDEM (Porter et al., doi:10.7910/DVN/3VDC4W), DEMs created by the Polar Geospatial Center "
            "from imagery of DigitalGlobe (Maxar) and funded under National Science Foundation awards 1043681, 1559691 "
            "and 1542736."
        )
    if set(TCVIS) & set(facts.bands):
        notices.append(
            "Vegetation trends: Tasseled Cap trends of Landsat (Nitze and Grosse, 2016, "
            "doi:10.1016/j.rse.2016.03.038) of images courtesy of the U.S. Geological Survey, computed and distributed "
            "by Google Earth Engine (Gorelick et al., 2017, doi:10.1016/j.rse.2017.06.031)."
        )
    return notices


def authors_of(parameters: ReleaseParameters) -> list[dict[str, str]]:
    """The authors in the terms of the Citation File Format; the institution, if there are none."""
    people = []
    for author in parameters.authors:
        orcid = _ORCID.search(author)
        family, _, given = _ORCID.sub("", author).strip().partition(",")
        person = {"family-names": family.strip(), "given-names": given.strip()}
        person = {name: value for name, value in person.items() if value}
        if orcid:
            person["orcid"] = f"https://orcid.org/{orcid[1]}"
        if parameters.institution:
            person["affiliation"] = parameters.institution
        people.append(person)
    return people or [{"name": parameters.institution}]


def citation(parameters: ReleaseParameters, facts: ReleaseFacts) -> str:
    """`CITATION.cff` of the data set, version 1.2.0 of the Citation File Format."""
    document: dict[str, Any] = {
        "cff-version": "1.2.0",
        "message": "If you use this data set, please cite it.",
        "type": "dataset",
        "title": parameters.title,
        "version": parameters.version,
        "authors": authors_of(parameters),
        "keywords": ["permafrost", "retrogressive thaw slumps", "thermokarst", "Arctic", "remote sensing"],
        **({"doi": parameters.doi} if parameters.doi else {}),
        **({"date-released": parameters.date} if parameters.date else {}),
        **({"license": parameters.licence} if parameters.licence != "other" else {}),
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)


def licence_text(parameters: ReleaseParameters, facts: ReleaseFacts) -> str:
    """`LICENSE.txt`: the licence by name and URL, and the notices to be kept."""
    title, url = _LICENCES.get(parameters.licence, (parameters.licence, ""))
    holders = "; ".join(display_name(author) for author in authors_of(parameters))
    lines = [f"{parameters.title}, version {parameters.version}", f"(c) {holders}", "", f"Licence: {title}"]
    notices = attributions(facts)
    return "\n".join([*lines, *([url] if url else []), "", *(["Notices:", *notices] if notices else [])]) + "\n"


def data_package(parameters: ReleaseParameters, facts: ReleaseFacts, files: Iterable[ReleaseFile]) -> str:
    """`datapackage.json`, the data dictionary: https://specs.frictionlessdata.io/data-package/."""
    _, url = _LICENCES.get(parameters.licence, ("", ""))
    resources = [
        {
            "name": re.sub(r"[^a-z0-9._-]+", "-", each.path.lower()).strip("-"),
            "path": each.path,
            "title": each.title,
            "format": each.path.rpartition(".")[2],
            "bytes": each.bytes,
            "hash": f"sha256:{each.sha256}",
            **({"schema": _schema(each)} if each.fields else {}),
        }
        for each in files
    ]
    document = {
        "profile": "data-package",
        "name": re.sub(r"[^a-z0-9._-]+", "-", f"{parameters.name}-{parameters.version}".lower()),
        "title": parameters.title,
        **({"description": parameters.description} if parameters.description else {}),
        "version": parameters.version,
        **({"id": f"https://doi.org/{parameters.doi}"} if parameters.doi else {}),
        **({"created": f"{parameters.date}T00:00:00Z"} if parameters.date else {}),
        "licenses": [{"name": parameters.licence, **({"path": url} if url else {})}],
        "contributors": [{"title": display_name(author), "role": "author"} for author in authors_of(parameters)],
        "sources": [{"title": notice} for notice in attributions(facts)],
        "spatial": {"bbox": list(facts.bbox)},
        "temporal": {"start": f"{facts.years[0]}-01-01", "end": f"{facts.years[1]}-12-31"},
        "resources": resources,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def readme(parameters: ReleaseParameters, facts: ReleaseFacts, files: Sequence[ReleaseFile]) -> str:
    """`README.md` of a release."""
    listed = "\n".join(f"| `{each.path}` | {each.title} |" for each in files)
    counts = ", ".join(f"{number:,} {name}" for name, number in facts.counts.items())
    area = ""
    if facts.area_ha:
        middle, low, high = facts.area_ha
        area = f" Area of the sites of {facts.years[1]}: {middle:,.1f} ha (95 % interval {low:,.1f} to {high:,.1f} ha)."
    dated = f", {parameters.date}" if parameters.date else ""
    about = parameters.description or (
        "Outlines of retrogressive thaw slumps, mapped from satellite images by segmentation models."
    )
    first_file = next(each.path for each in files if each.path.endswith("level2.parquet"))
    levels = {
        "darts_assets": _OWN_LEVELS, "darts": _DARTS_LEVELS, "both": f"{_OWN_LEVELS}\n{_DARTS_LEVELS}"
    }[parameters.profile]  # fmt: skip
    return f"""# {parameters.title}

Version {parameters.version}{dated}. {_cited(parameters)}

{about}

Years {facts.period}; {counts}.{area} Images: {", ".join(facts.families)}. Models: {", ".join(facts.models)}.
{f"Contact: {parameters.contact}" if parameters.contact else ""}

## Files

| file | content |
|---|---|
{listed}

All layers are in longitude and latitude (EPSG:4326), outlines cut at the antimeridian, except those of `arts/`
(EPSG:3413) and the raster of days (EPSG:6931, an equal-area projection). GeoPackage and GeoParquet files of one name
have the same rows. `datapackage.json` describes every column: type, unit, meaning. `SHA256SUMS` has the hashes
(`sha256sum -c SHA256SUMS`). `collection.json` is a STAC collection of the files.

## Levels

{levels}
- **Coverage**: on how many days of each year a place was seen clear, by cells of {facts.cell_m:g} m, as a raster and as
  polygons of classes; `_union` has the number of years. Without coverage, the absence of a slump means nothing.

```python
import geopandas
sites = geopandas.read_parquet("{first_file}")
```

## Licence and attribution

{parameters.licence}. {" ".join(attributions(facts))}

The levels follow the DARTS database: {_DARTS}.
"""


def _schema(file: ReleaseFile) -> dict[str, Any]:
    return {"fields": list(file.fields), **({"primaryKey": [file.key]} if file.key else {})}


def display_name(author: Mapping[str, str]) -> str:
    """The name of an author of `authors_of`."""
    names = (author.get("name"), author.get("given-names"), author.get("family-names"))
    return " ".join(filter(None, names))


def _cited(parameters: ReleaseParameters) -> str:
    people = "; ".join(
        ", ".join(filter(None, (author.get("name"), author.get("family-names"), author.get("given-names"))))
        for author in authors_of(parameters)
    )
    year = f" ({parameters.date[:4]})" if parameters.date else ""
    doi = f" https://doi.org/{parameters.doi}" if parameters.doi else ""
    return f"Cite as: {people}{year}: {parameters.title}, version {parameters.version}.{doi}"
