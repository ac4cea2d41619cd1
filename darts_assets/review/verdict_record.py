"""A verdict of a reviewer about a slump, as the page of the map sends it, and its strict validation.

Names and notes are text: they are stored and returned as JSON strings and never interpreted.
"""

import datetime as dt
import json
import math
import re
import unicodedata
import uuid
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import shapely
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from shapely.geometry import shape

from darts_assets.errors import VerdictError

VERDICTS = ("yes", "no", "unsure", "redraw")
"""A slump; no slump; not to be decided from the pictures; a slump with a wrong outline."""

MOST_VERTICES = 2000
"""Of an outline."""

_EXPORT = {"type": "darts-verdicts", "version": 1}
_AHEAD = dt.timedelta(days=1)  # clocks of reviewers are wrong by less; the latest verdict of a reviewer counts
_SHOWN = 60  # characters of a wrong value in messages
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)", re.ASCII)


def _is_id(value: str) -> str:
    if len(value) != 36 or (parsed := uuid.UUID(value)).version != 4 or str(parsed) != value:
        raise ValueError("expected a UUID of version 4 in lower case")
    return value


def _as_time(value: object) -> dt.datetime:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError("expected a time in UTC, such as 2026-07-01T12:00:00Z")
    return dt.datetime.fromisoformat(value).astimezone(dt.UTC)


def _is_text(value: str) -> str:
    """Text on one line that can be written as UTF-8."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        raise ValueError("expected text without control characters")
    return value


def _is_name(value: str) -> str:
    if value != value.strip():
        raise ValueError("expected a name without blanks at its ends")
    return _is_text(value)


def _is_note(value: str) -> str:
    _is_text(value.translate({9: " ", 10: " ", 13: " "}))
    return value


def _is_outline(value: dict[str, Any]) -> dict[str, Any]:
    """A GeoJSON polygon in degrees, with closed rings and an area."""
    if value.keys() != {"type", "coordinates"} or value["type"] not in ("Polygon", "MultiPolygon"):
        raise ValueError("expected a GeoJSON Polygon or MultiPolygon with `type` and `coordinates` only")
    polygons = [value["coordinates"]] if value["type"] == "Polygon" else value["coordinates"]
    rings = [ring for polygon in _listed(polygons) for ring in _listed(polygon)]
    vertices = [vertex for ring in rings for vertex in _listed(ring)]
    if len(vertices) > MOST_VERTICES:
        raise ValueError(f"expected at most {MOST_VERTICES} vertices, not {len(vertices)}")
    if not all(_is_position(vertex) for vertex in vertices):
        raise ValueError("expected positions [longitude, latitude] in degrees")
    if any(len(ring) < 4 or ring[0] != ring[-1] for ring in rings):
        raise ValueError("expected closed rings of four or more positions")
    if not shape(value).area > 0:
        raise ValueError("expected a polygon with an area")
    return value


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError("expected lists of rings, of positions, of numbers")
    return value


def _is_position(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(number) in (int, float) and math.isfinite(number) for number in value)
        and abs(value[0]) <= 180
        and abs(value[1]) <= 90
    )


Id = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_is_text)]


class Verdict(BaseModel):
    """A verdict; unknown keys and values of another type are errors.

    Attributes:
        id: UUID of the verdict; a verdict that is sent twice is stored once.
        time: when the reviewer decided, UTC.
        reviewer: name of the reviewer.
        verdict: one of `VERDICTS`.
        note: text of the reviewer.
        slump_id: the slump that was shown; verdicts are matched by the outline, not by this.
        site_id: the site that was shown.
        year: year of that site.
        outline: its outline, GeoJSON in degrees; one that crosses the antimeridian may be cut there or not.
        mean_probability: its mean probability.
        inventory_version: version of the inventory that was shown.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Annotated[str, AfterValidator(_is_id)]
    time: Annotated[dt.datetime, BeforeValidator(_as_time)]
    reviewer: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_is_name)]
    verdict: Literal["yes", "no", "unsure", "redraw"]
    note: Annotated[str, Field(max_length=1000), AfterValidator(_is_note)]
    slump_id: Id
    site_id: Id
    year: Annotated[int, Field(ge=1980, le=2200)]
    outline: Annotated[dict[str, Any], AfterValidator(_is_outline)]
    mean_probability: Annotated[float, Field(ge=0, le=1)] | None
    inventory_version: Annotated[str, Field(max_length=200), AfterValidator(_is_text)]

    def record(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return self.model_dump(mode="json")

    def line(self) -> str:
        """The verdict as one line of JSON; equal for equal verdicts."""
        return json.dumps(self.record(), sort_keys=True, separators=(",", ":"))

    def shape(self) -> shapely.Geometry:
        """The outline in degrees."""
        return shape(self.outline)


def parsed_json(content: bytes | str, subject: str) -> Any:
    """JSON with unique keys and finite numbers.

    Raises:
        VerdictError: if it is not; the message begins with `subject`.
    """
    try:
        return json.loads(content, object_pairs_hook=_unique, parse_constant=_not_finite)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise VerdictError(f"{subject} is not JSON: {reason}") from None


def parsed_records(records: object, subject: str) -> list[Verdict]:
    """A list of records as verdicts.

    Raises:
        VerdictError: for the first record that is not a verdict, with its position, key and the expectation.
    """
    if not isinstance(records, list):
        raise VerdictError(f"{subject}: expected a list of verdicts")
    verdicts = []
    for number, record in enumerate(records):
        try:
            verdicts.append(Verdict.model_validate(record))
        except ValidationError as error:
            raise VerdictError(f"{subject}[{number}]{_sentence(error)}") from None
        except RecursionError:
            raise VerdictError(f"{subject}[{number}] is nested too deeply") from None
    return verdicts


def parsed_request(content: bytes) -> list[Verdict]:
    """The verdicts in the body of a request, `{"verdicts": [...]}`.

    Raises:
        VerdictError: if it is anything else.
    """
    body = parsed_json(content, "the body")
    if not isinstance(body, dict) or body.keys() != {"verdicts"}:
        raise VerdictError('the body: expected {"verdicts": [...]} without other keys')
    return _received(body["verdicts"], "verdicts")


def parsed_export(content: bytes, subject: str) -> list[Verdict]:
    """The verdicts in a file that the page has exported.

    Raises:
        VerdictError: if it is not such a file; the message begins with `subject`.
    """
    body = parsed_json(content, subject)
    if not isinstance(body, dict) or body.keys() != {*_EXPORT, "verdicts"}:
        raise VerdictError(f"{subject} is not a file of verdicts: expected the keys type, version and verdicts")
    if not (body["type"] == _EXPORT["type"] and type(body["version"]) is int and body["version"] == 1):
        raise VerdictError(f"{subject} is not a file of verdicts of version 1 (type darts-verdicts)")
    return _received(body["verdicts"], f"{subject}: verdicts")


def _received(records: object, subject: str) -> list[Verdict]:
    verdicts = parsed_records(records, subject)
    limit = dt.datetime.now(dt.UTC) + _AHEAD
    for number, verdict in enumerate(verdicts):
        if verdict.time > limit:
            raise VerdictError(
                f"{subject}[{number}].time: {verdict.time.isoformat()} is in the future; check the clock"
            )
    return verdicts


def unique(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Verdicts without repeated ids, by time and id; of different ones with the same id, always the same remains."""
    ordered = sorted(verdicts, key=lambda each: (each.time, each.id, each.line()))
    first: dict[str, Verdict] = {}
    for verdict in ordered:
        first.setdefault(verdict.id, verdict)
    return list(first.values())


def latest(verdicts: Iterable[Verdict], reviewer: str) -> list[Verdict]:
    """The latest verdict of a reviewer for each `slump_id`, by time."""
    by_slump: dict[str, Verdict] = {}
    for verdict in unique(verdicts):
        if verdict.reviewer == reviewer:
            by_slump.pop(verdict.slump_id, None)
            by_slump[verdict.slump_id] = verdict
    return list(by_slump.values())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key is repeated")
    return values


def _not_finite(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")


def _sentence(error: ValidationError) -> str:
    """Key, problem and value of the first error."""
    first: Mapping[str, Any] = error.errors(include_url=False, include_context=False)[0]
    place = "".join(f".{part}" for part in first["loc"][:1])
    value = repr(first["input"])
    value = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
    problem = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {problem[:1].lower()}{problem[1:]}" + ("" if first["type"] == "missing" else f", not {value}")
