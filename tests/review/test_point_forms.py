"""Forms of an area sample that people fill in with QGIS become verdicts about its points."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest

from darts_assets.errors import VerdictError
from darts_assets.review.point_forms import is_form, read_form
from darts_assets.review.verdict_record import PointVerdict
from tests.review.verdict_samples import point_verdict

POINTS = 4


def form(folder: Path, **columns: Any) -> Path:
    """A form with four points, with some columns filled in."""
    values = {
        "sample_id": [f"area-2024-1-0123ab-{number:04d}" for number in range(1, POINTS + 1)],
        "year": 2024,
        "lon": [-134.95, -134.94, -134.93, -134.92],
        "lat": 68.55,
        "verdict": "",
        "reviewer": "",
        "note": "",
        "inventory_version": "v",
    }
    table = gpd.GeoDataFrame({**values, **columns}, geometry=gpd.points_from_xy(values["lon"], [68.55] * 4), crs=4326)
    path = folder / "to_review.gpkg"
    table.to_file(path)
    return path


def test_filled_rows_become_verdicts(tmp_path: Path) -> None:
    path = form(
        tmp_path,
        verdict=["yes", "No ", None, "unsure"], reviewer=[" Ada", "Ada", None, "Bo"], note=["clear", None, None, ""],
    )  # fmt: skip
    assert is_form(path)
    verdicts = read_form(path, [])
    assert all(isinstance(each, PointVerdict) for each in verdicts)
    assert [each.record() | {"id": "", "time": ""} for each in verdicts] == [
        {
            "id": "", "time": "", "reviewer": reviewer, "verdict": verdict, "note": note, "year": 2024,
            "sample_id": f"area-2024-1-0123ab-000{number}", "point": [lon, 68.55], "inventory_version": "v",
        }
        for number, lon, verdict, reviewer, note in (
            (1, -134.95, "yes", "Ada", "clear"), (2, -134.94, "no", "Ada", ""), (4, -134.92, "unsure", "Bo", ""),
        )
    ]  # fmt: skip


def test_a_form_that_is_read_again_gives_only_what_has_changed(tmp_path: Path) -> None:
    verdicts = ["yes", "yes", "", ""]
    first = read_form(form(tmp_path, verdict=verdicts, reviewer="Ada"), [])
    assert read_form(form(tmp_path, verdict=verdicts, reviewer="Ada"), first) == []
    (changed,) = read_form(form(tmp_path, verdict=["yes", "no", "", ""], reviewer="Ada"), first)
    assert changed.record()["verdict"] == "no"
    (other,) = read_form(form(tmp_path, verdict=["yes", "", "", ""], reviewer="Bo"), first)
    assert other.reviewer == "Bo"
    back = [*first, point_verdict(sample_id="area-2024-1-0123ab-0001", verdict="no", time="2026-01-01T00:00:00Z")]
    assert read_form(form(tmp_path, verdict=verdicts, reviewer="Ada"), back) == [], "an earlier one does not count"


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"verdict": ["", "maybe", "", ""], "reviewer": "Ada"}, "row 2.verdict: input should be 'yes', 'no' or"),
        ({"verdict": ["yes", "", "", ""]}, "row 1.reviewer: string should have at least 1 character"),
        (
            {"verdict": "yes", "reviewer": "Ada", "year": None},
            "year, lon or lat of a row with a verdict is not a number",
        ),
    ],
)
def test_rows_that_are_no_verdicts_are_refused(tmp_path: Path, columns: dict[str, Any], reason: str) -> None:
    with pytest.raises(VerdictError) as refused:
        read_form(form(tmp_path, **columns), [])
    assert reason in str(refused.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "a.json"
    text.write_text("{}")
    assert not is_form(text)
    other = tmp_path / "other.gpkg"
    gpd.GeoDataFrame({"name": ["a"]}, geometry=gpd.points_from_xy([0], [0]), crs=4326).to_file(other)
    with pytest.raises(VerdictError, match=r"other\.gpkg is not a filled in to_review\.gpkg: columns sample_id, year,"):
        read_form(other, [])
    (tmp_path / "broken.gpkg").write_bytes(b"SQLite format 3\0")
    with pytest.raises(VerdictError, match=r"broken\.gpkg cannot be read as a form"):
        read_form(tmp_path / "broken.gpkg", [])
