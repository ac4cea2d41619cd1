"""Verdicts of reviewers about slumps and points of samples, as the page of the map sends them; strictly validated.

Names and notes are text: they are stored and returned as JSON strings and never interpreted.
"""

import datetime as dt
import json
import math
import re
import unicodedata
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import shapely
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from shapely.geometry import shape

from darts_assets.errors import VerdictError

VERDICTS = ("yes", "no", "unsure", "redraw")
"""A slump; no slump; not to be decided from the pictures; a slump with a wrong outline."""

POINT_VERDICTS = ("yes", "no", "unsure")
"""A point lies inside a slump in that year; it does not; not to be decided."""

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


def _is_point(value: list[float]) -> list[float]:
    if not _is_position(value):
        raise ValueError("expected a position [longitude, latitude] in degrees")
    return value


Id = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_is_text)]


class Judgement(BaseModel, ABC):
    """What verdicts of all kinds have; unknown keys and values of another type are errors.

    Attributes:
        id: UUID of the verdict; a verdict that is sent twice is stored once.
        time: when the reviewer decided, UTC.
        reviewer: name of the reviewer.
        note: text of the reviewer.
        year: year of what was shown.
        inventory_version: version of the inventory that was shown, or from which the sample was drawn.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Annotated[str, AfterValidator(_is_id)]
    time: Annotated[dt.datetime, BeforeValidator(_as_time)]
    reviewer: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_is_name)]
    note: Annotated[str, Field(max_length=1000), AfterValidator(_is_note)]
    year: Annotated[int, Field(ge=1980, le=2200)]
    inventory_version: Annotated[str, Field(max_length=200), AfterValidator(_is_text)]

    def record(self) -> dict[str, Any]:
        """The verdict as JSON values."""
        return self.model_dump(mode="json")

    def line(self) -> str:
        """The verdict as one line of JSON; equal for equal verdicts."""
        return json.dumps(self.record(), sort_keys=True, separators=(",", ":"))

    @property
    @abstractmethod
    def subject(self) -> str:
        """Id of what the verdict is about; a later verdict of the reviewer about it replaces this one."""


class Verdict(Judgement):
    """A verdict about a slump.

    Attributes:
        verdict: one of `VERDICTS`.
        slump_id: the slump that was shown; verdicts are matched by the outline, not by this.
        site_id: the site that was shown.
        outline: its outline, GeoJSON in degrees; one that crosses the antimeridian may be cut there or not.
        mean_probability: its mean probability.
    """

    verdict: Literal["yes", "no", "unsure", "redraw"]
    slump_id: Id
    site_id: Id
    outline: Annotated[dict[str, Any], AfterValidator(_is_outline)]
    mean_probability: Annotated[float, Field(ge=0, le=1)] | None

    @property
    def subject(self) -> str:
        """The slump."""
        return self.slump_id

    def shape(self) -> shapely.Geometry:
        """The outline in degrees."""
        return shape(self.outline)


class PointVerdict(Judgement):
    """A verdict about a point of a sample; it is about no site of the inventory, and changes none.

    Attributes:
        verdict: one of `POINT_VERDICTS`: whether the point lies inside a slump in `year`.
        sample_id: the point, unique in all stores.
        point: longitude and latitude in degrees.
    """

    verdict: Literal["yes", "no", "unsure"]
    sample_id: Id
    point: Annotated[list[float], AfterValidator(_is_point)]

    @property
    def subject(self) -> str:
        """The point."""
        return self.sample_id


R = TypeVar("R", bound=Judgement)


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


def parsed_records(
    records: object, subject: str, kinds: Sequence[type[Judgement]] = (Verdict, PointVerdict)
) -> list[Judgement]:
    """A list of records as verdicts.

    Args:
        records: JSON values.
        subject: begins messages.
        kinds: of verdicts that are accepted; a record with `sample_id` is a `PointVerdict`, and any other a `Verdict`.

    Raises:
        VerdictError: for the first record that is not a verdict, with its position, key and the expectation.
    """
    if not isinstance(records, list):
        raise VerdictError(f"{subject}: expected a list of verdicts")
    return [parsed_record(record, f"{subject}[{number}]", kinds) for number, record in enumerate(records)]


def parsed_record(
    record: object, subject: str, kinds: Sequence[type[Judgement]] = (Verdict, PointVerdict)
) -> Judgement:
    """A record as a verdict; arguments and errors as of `parsed_records`."""
    kind = PointVerdict if isinstance(record, dict) and "sample_id" in record else Verdict
    if kind not in kinds:
        raise VerdictError(f"{subject}: expected a {kinds[0].__name__}, not a {kind.__name__}")
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        raise VerdictError(f"{subject}{_sentence(error)}") from None
    except RecursionError:
        raise VerdictError(f"{subject} is nested too deeply") from None


def parsed_request(content: bytes) -> list[Judgement]:
    """The verdicts in the body of a request, `{"verdicts": [...]}`.

    Raises:
        VerdictError: if it is anything else.
    """
    body = parsed_json(content, "the body")
    if not isinstance(body, dict) or body.keys() != {"verdicts"}:
        raise VerdictError('the body: expected {"verdicts": [...]} without other keys')
    return _received(body["verdicts"], "verdicts")


def parsed_export(content: bytes, subject: str) -> list[Judgement]:
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


def _received(records: object, subject: str) -> list[Judgement]:
    verdicts = parsed_records(records, subject)
    limit = dt.datetime.now(dt.UTC) + _AHEAD
    for number, verdict in enumerate(verdicts):
        if verdict.time > limit:
            raise VerdictError(
                f"{subject}[{number}].time: {verdict.time.isoformat()} is in the future; check the clock"
            )
    return verdicts


def of_kind(verdicts: Iterable[Judgement], kind: type[R]) -> list[R]:
    """Those verdicts that are of one kind."""
    return [verdict for verdict in verdicts if isinstance(verdict, kind)]


def unique(verdicts: Iterable[R]) -> list[R]:
    """Verdicts without repeated ids, by time and id; of different ones with the same id, always the same remains."""
    ordered = sorted(verdicts, key=lambda each: (each.time, each.id, each.line()))
    first: dict[str, R] = {}
    for verdict in ordered:
        first.setdefault(verdict.id, verdict)
    return list(first.values())


def latest(verdicts: Iterable[R], reviewer: str) -> list[R]:
    """The latest verdict of a reviewer for each `subject`, by time."""
    by_subject: dict[str, R] = {}
    for verdict in unique(verdicts):
        if verdict.reviewer == reviewer:
            by_subject.pop(verdict.subject, None)
            by_subject[verdict.subject] = verdict
    return list(by_subject.values())


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
