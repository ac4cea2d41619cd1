"""Forms with the points of a sample, filled in with QGIS or another program: `to_review.gpkg`.

A row with a verdict becomes a verdict about its point, unless it repeats the latest one of the reviewer.
"""

import datetime as dt
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from darts_assets.errors import VerdictError
from darts_assets.review.verdict_record import Judgement, PointVerdict, of_kind, parsed_record, unique

COLUMNS = ("sample_id", "year", "lon", "lat", "verdict", "reviewer", "note", "inventory_version")

_GEOPACKAGE = b"SQLite format 3\0"


def is_form(path: Path) -> bool:
    """Whether a file is a GeoPackage, and no exported file of verdicts.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(len(_GEOPACKAGE)) == _GEOPACKAGE


def read_form(path: Path, stored: Iterable[Judgement]) -> list[Judgement]:
    """The verdicts of a form that are new, with the present time.

    Args:
        path: a GeoPackage with `COLUMNS`; rows with an empty `verdict` are open.
        stored: the verdicts of the store.

    Raises:
        VerdictError: if the file is anything else, or for the first row that is not a verdict.
    """
    from darts_assets.geo.vector_files import read_vector

    try:
        table = read_vector(path)
    except (OSError, ValueError) as error:
        raise VerdictError(f"{path} cannot be read as a form: {error}") from None
    if missing := [name for name in COLUMNS if name not in table]:
        raise VerdictError(
            f"{path} is not a filled in to_review.gpkg: columns {', '.join(missing)} are missing; it has "
            f"{', '.join(map(str, table.columns))}"
        )
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    rows = table[list(COLUMNS)].to_dict("records")
    latest = {
        (each.reviewer, each.sample_id): (each.verdict, each.note) for each in unique(of_kind(stored, PointVerdict))
    }
    try:
        records = [(number, _record(row, now)) for number, row in enumerate(rows, 1) if _text(row["verdict"])]
    except (TypeError, ValueError) as error:
        raise VerdictError(f"{path}: year, lon or lat of a row with a verdict is not a number: {error}") from None
    verdicts: list[Judgement] = []
    for number, record in records:
        if latest.get((record["reviewer"], record["sample_id"])) != (record["verdict"], record["note"]):
            verdicts.append(parsed_record(record, f"{path}: row {number}", [PointVerdict]))
    return verdicts


def _record(row: Mapping[str, Any], now: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "time": now,
        "reviewer": _text(row["reviewer"]),
        "verdict": _text(row["verdict"]).lower(),
        "note": _text(row["note"]),
        "sample_id": _text(row["sample_id"]),
        "point": [float(row["lon"]), float(row["lat"])],
        "year": int(row["year"]),
        "inventory_version": _text(row["inventory_version"]),
    }


def _text(value: Any) -> str:
    """A text field; empty for null."""
    return "" if value is None or value != value else str(value).strip()
