"""`map-server` and `review`: what they print and serve, and the import of exported verdicts."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import geopandas as gpd
import pytest
import shapely
from click.testing import CliRunner

from darts_assets.cli import cli
from darts_assets.review.verdict_store import VerdictStore, read_point_verdicts, read_verdicts
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.store_layout import slumps_place
from darts_assets.stores.vectors import write_vectors
from tests.review.test_point_forms import form
from tests.review.verdict_samples import record, verdict


def started(*arguments: str, store: Path, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """A command that serves, and the first line that it prints."""
    command = [sys.executable, "-c", "from darts_assets.cli import main; main()", *arguments, "--port", "0"]
    variables = {**os.environ, "DARTS_STORE": str(store), **environment}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    return process.communicate(timeout=30)[0]


def test_a_filled_in_form_is_imported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_STORE", str(tmp_path / "store"))
    path = form(tmp_path, verdict=["yes", "no", "", "unsure"], reviewer="Ada")
    for new in (3, 0):
        done = CliRunner().invoke(cli, ["review", "--import", str(path)], catch_exceptions=False)
        assert done.output == f"{path}: {new} verdicts, {new} of them new\n"
    root = StoreLocation(str(tmp_path / "store"))
    by_point = {each.sample_id[-1]: each.verdict for each in read_point_verdicts(root)}
    assert by_point == {"1": "yes", "2": "no", "4": "unsure"}
    assert read_verdicts(root) == []


@pytest.mark.slow
def test_review_prints_a_url_with_a_token_and_stores_verdicts(tmp_path: Path) -> None:
    page = tmp_path / "catalog" / "map" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("the page")
    process, url = started("review", store=tmp_path)
    try:
        match = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/catalog/map/index\.html\?review#token=([\w-]{43})", url)
        assert match, url
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"the page"
        headers = {"Authorization": f"Bearer {match[2]}", "Content-Type": "application/json"}
        body = json.dumps({"verdicts": [record()]}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{match[1]}/api/verdicts", body, headers)) as answer:
            assert (answer.status, json.loads(answer.read())) == (201, {"stored": 1})
    finally:
        rest = ended(process)
    assert match[2] not in rest
    assert "Traceback" not in rest
    assert len(read_verdicts(StoreLocation(str(tmp_path)))) == 1
    process, url = started("map-server", store=tmp_path)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/catalog/map/index\.html", url)
    ended(process)
    page.unlink()
    process, hint = started("review", store=tmp_path, DARTS_REVIEW_TOKEN="the-token-of-our-group")
    assert hint == f"{tmp_path} has no map yet: materialize the asset catalog/map"
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    ended(process)
    assert url.endswith("?review#token=the-token-of-our-group")


def test_exported_files_are_imported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_STORE", str(tmp_path / "store"))
    verdicts = [record(), record()]
    for name, some in (("a", verdicts), ("b", verdicts[:1]), ("bad", [record(), record(verdict="maybe")])):
        file = {"type": "darts-verdicts", "version": 1, "verdicts": some}
        (tmp_path / f"{name}.json").write_text(json.dumps(file))
    options = [part for name in "ab" for part in ("--import", str(tmp_path / f"{name}.json"))]
    done = CliRunner().invoke(cli, ["review", *options], catch_exceptions=False)
    assert done.exit_code == 0
    assert [line.rpartition(": ")[2] for line in done.output.splitlines()] == [
        "2 verdicts, 2 of them new", "1 verdicts, 0 of them new",
    ]  # fmt: skip
    done = CliRunner().invoke(cli, ["review", "--import", str(tmp_path / "bad.json")])
    assert done.exit_code == 1
    assert "bad.json: verdicts[1].verdict: input should be 'yes'" in done.output
    assert {each.id for each in read_verdicts(StoreLocation(str(tmp_path / "store")))} == {
        each["id"] for each in verdicts
    }


def test_the_report_is_that_of_the_present_verdicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_STORE", str(tmp_path))
    done = CliRunner().invoke(cli, ["review", "--report"])
    assert (done.exit_code, "has no slumps: materialize the group inventory first" in done.output) == (1, True)
    lonlat = gpd.GeoSeries([shapely.box(x, 68.5, x + 0.1, 68.6) for x in (-135.0, -134.0, -133.0)], crs=4326)
    sites = gpd.GeoDataFrame(
        {"slump_id": list("abc"), "year": 2024, "lon": [-135.0, -134, -133], "lat": 68.5, "mean_probability": 0.8},
        geometry=lonlat.to_crs(6931),
    )
    write_vectors(
        slumps_place(StoreLocation(str(tmp_path))), {"rts_sites": sites},
        {"provenance": {"parameters": {"min_overlap": 0.25}}},
    )  # fmt: skip
    VerdictStore(StoreLocation(str(tmp_path))).append([verdict()])  # of the first one
    done = CliRunner().invoke(cli, ["review", "--report", "--precision", "0.8"], catch_exceptions=False)
    assert done.output.startswith("1 of 3 slumps reviewed; precision 1.000 (0.207 to 1.000)\na precision of 0.8: from ")


def test_a_token_that_is_too_short_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARTS_STORE", str(tmp_path))
    monkeypatch.setenv("DARTS_REVIEW_TOKEN", "secret")
    done = CliRunner().invoke(cli, ["review"])
    assert (done.exit_code, done.output.startswith("Error: DARTS_REVIEW_TOKEN: expected at least 16")) == (1, True)
    assert "secret" not in done.output
