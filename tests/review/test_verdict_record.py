"""Verdicts are accepted in exactly one form; everything else is refused with the position, the key and the reason."""

import json
from typing import Any

import pytest

from darts_assets.errors import VerdictError
from darts_assets.review.verdict_record import (
    PointVerdict,
    Verdict,
    latest,
    of_kind,
    parsed_export,
    parsed_records,
    parsed_request,
    unique,
)
from tests.review.verdict_samples import SQUARE, point_record, point_verdict, record, verdict


def body(**values: Any) -> bytes:
    return json.dumps({"verdicts": [record(), record(**values)]}).encode()


def test_a_verdict_comes_back_as_it_was_sent() -> None:
    sent = record(note="<img src=x onerror=alert(1)>\nsecond line", reviewer="Zoë <b>", mean_probability=None)
    (parsed,) = parsed_request(json.dumps({"verdicts": [sent]}).encode())
    assert parsed.record() == sent
    assert json.loads(parsed.line()) == sent


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"id": "1"}, "id: expected a UUID of version 4 in lower case, not '1'"),
        ({"id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, "id: expected a UUID of version 4"),
        ({"time": "2026-07-01T12:00:00"}, "time: expected a time in UTC"),
        ({"time": "2026-07-01T12:00:00+02:00"}, "time: expected a time in UTC"),
        ({"time": "2026-13-01T12:00:00Z"}, "time: month must be in 1..12"),
        ({"time": 1}, "time: expected a time in UTC"),
        ({"time": "2200-01-01T00:00:00Z"}, "is in the future; check the clock"),
        ({"reviewer": ""}, "reviewer: string should have at least 1 character"),
        ({"reviewer": " Ada"}, "reviewer: expected a name without blanks at its ends"),
        ({"reviewer": "A" * 81}, "reviewer: string should have at most 80 characters"),
        ({"reviewer": "Ada\x00"}, "reviewer: expected text without control characters"),
        ({"reviewer": "\ud800"}, "reviewer: "),
        ({"verdict": "maybe"}, "verdict: input should be 'yes', 'no', 'unsure' or 'redraw', not 'maybe'"),
        ({"note": "n" * 1001}, "note: string should have at most 1000 characters"),
        ({"note": "\x1b[2J"}, "note: expected text without control characters"),
        ({"year": "2024"}, "year: input should be a valid integer, not '2024'"),
        ({"year": True}, "year: input should be a valid integer, not True"),
        ({"mean_probability": 1.5}, "mean_probability: input should be less than or equal to 1"),
        ({"mean_probability": "0.5"}, "mean_probability: input should be a valid number"),
        ({"rating": 5}, "rating: extra inputs are not permitted, not 5"),
        ({"outline": None}, "outline: input should be a valid dictionary"),
        ({"outline": {"type": "Point", "coordinates": [0, 0]}}, "outline: expected a GeoJSON Polygon or MultiPolygon"),
        ({"outline": {"type": "Polygon", "coordinates": SQUARE, "crs": "x"}}, "outline: expected a GeoJSON Polygon"),
        ({"outline": {"type": "Polygon", "coordinates": []}}, "outline: expected lists of rings"),
        ({"outline": {"type": "Polygon", "coordinates": [SQUARE[0][:-1]]}}, "outline: expected closed rings"),
        ({"outline": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}}, "with an area"),
        ({"outline": {"type": "Polygon", "coordinates": [[[0, 95], [1, 95], [1, 96], [0, 95]]]}}, "expected positions"),
        ({"outline": {"type": "Polygon", "coordinates": [[[0, 0]] * 2001]}}, "outline: expected at most 2000 vertices"),
        ({"outline": {"type": "MultiPolygon", "coordinates": SQUARE}}, "outline: expected "),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_the_reason(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(VerdictError) as refused:
        parsed_request(body(**values))
    assert str(refused.value).startswith("verdicts[1].")
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[]", "the body: expected "),
        (b'{"verdicts": [], "more": 1}', "the body: expected "),
        (b'{"verdicts": {}}', "verdicts: expected a list"),
        (b'{"verdicts": [1]}', "verdicts[0]: input should be a valid dictionary or instance of Verdict, not 1"),
        (b'{"verdicts": [], "verdicts": []}', "a key is repeated"),
        (b'{"verdicts": NaN}', "NaN is not a number of JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (json.dumps({"verdicts": [{k: v for k, v in record().items() if k != "id"}]}).encode(), "id: field required"),
    ],
)
def test_bodies_that_are_not_verdicts_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(VerdictError) as refused:
        parsed_request(content)
    assert reason in str(refused.value)


def test_an_exported_file_has_a_type_and_a_version() -> None:
    sent = record()
    file = {"type": "darts-verdicts", "version": 1, "verdicts": [sent]}
    assert [each.record() for each in parsed_export(json.dumps(file).encode(), "a.json")] == [sent]
    for changed in ({"type": "other"}, {"version": 2}, {"version": True}, {"verdicts": [record(id="1")]}, {"more": 1}):
        with pytest.raises(VerdictError, match=r"^a\.json"):
            parsed_export(json.dumps(file | changed).encode(), "a.json")


def test_of_a_reviewer_the_latest_verdict_of_each_slump_counts() -> None:
    first = verdict(time="2026-07-01T12:00:00Z", slump_id="a", verdict="yes")
    second = verdict(time="2026-07-02T12:00:00Z", slump_id="a", verdict="no")
    other = verdict(time="2026-07-01T13:00:00Z", slump_id="b")
    foreign = verdict(reviewer="Bo", time="2026-07-03T12:00:00Z", slump_id="a")
    assert latest([second, foreign, other, first, second], "Ada") == [other, second]


def test_a_repeated_id_counts_once_and_its_verdict_does_not_depend_on_the_order() -> None:
    one = verdict()
    other = verdict(id=one.id, verdict="no")
    assert unique([one, other, one]) == unique([other, one])
    assert len(unique([one, other])) == 1


def test_verdicts_about_points_have_a_form_of_their_own() -> None:
    sent = [point_record(verdict="unsure", note="shadow"), record()]
    point, slump = parsed_request(json.dumps({"verdicts": sent}).encode())
    assert isinstance(point, PointVerdict)
    assert isinstance(slump, Verdict)
    assert [point.record(), slump.record()] == sent
    assert (point.subject, slump.subject) == (sent[0]["sample_id"], sent[1]["slump_id"])
    assert of_kind([point, slump], Verdict) == [slump]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"verdict": "redraw"}, "verdict: input should be 'yes', 'no' or 'unsure', not 'redraw'"),
        ({"sample_id": ""}, "sample_id: string should have at least 1 character"),
        ({"point": [0, 91]}, "point: expected a position [longitude, latitude] in degrees"),
        ({"point": [0]}, "point: expected a position"),
        ({"point": "0,0"}, "point: input should be a valid list"),
        ({"slump_id": "rts-1"}, "slump_id: extra inputs are not permitted"),
        ({"outline": {"type": "Polygon", "coordinates": SQUARE}}, "outline: extra inputs are not permitted"),
    ],
)
def test_other_records_about_points_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(VerdictError) as refused:
        parsed_request(json.dumps({"verdicts": [point_record(**values)]}).encode())
    assert f"verdicts[0].{reason}" in str(refused.value)


def test_a_record_of_another_kind_is_refused() -> None:
    with pytest.raises(VerdictError, match=r"line\[0\]: expected a Verdict, not a PointVerdict"):
        parsed_records([point_record()], "line", [Verdict])


def test_of_a_reviewer_the_latest_verdict_of_each_point_counts() -> None:
    first = point_verdict(time="2026-07-01T12:00:00Z")
    second = point_verdict(time="2026-07-02T12:00:00Z", verdict="no")
    slump = verdict(time="2026-07-01T13:00:00Z")
    assert latest([second, slump, first], "Ada") == [slump, second]
