"""The page in headless Chromium: the map, its cards and filters, and the review, on a desktop and on a phone."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
import uvicorn
from shapely.geometry import mapping, shape

import darts_assets.web_map
from darts_assets.review.map_server import map_application
from darts_assets.review.verdict_record import parsed_export, parsed_request
from darts_assets.review.verdict_store import PointVerdictStore, VerdictStore
from darts_assets.stores.location import StoreLocation
from darts_assets.web_map.published_map import update_map
from tests.web_map.arctic_inventory import (
    generated_scenes,
    generated_sites,
    publish_chips,
    publish_inventory,
    publish_items,
)
from tests.web_map.published_sample import WITHOUT_TILE, publish_sample

ROOM = Path(darts_assets.web_map.__file__).parent
PAGE, BUNDLE = ROOM / "page", ROOM / "bundle"
YEARS = [2021, 2022, 2023]
SLUMPS = 48
TOKEN = "a-token-of-this-test-0123"
NAME = "Ada <img src=x onerror=alert(1)>"


def node_modules() -> Path:
    """The packages of `page/package-lock.json`, installed."""
    return Path(os.environ.get("DARTS_ASSETS_TEST_NODE_MODULES", PAGE / "node_modules")).resolve()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_bundle_was_built_from_these_sources() -> None:
    """Otherwise: `npm ci && npm run build` in `page/`."""
    hashes = json.loads((BUNDLE / "hashes.json").read_text())
    sources = {"build.mjs", "package.json", "package-lock.json", *(f"src/{path.name}" for path in PAGE.glob("src/*"))}
    assert hashes["sources"] == {name: sha256(PAGE / name) for name in sources}
    assert hashes["bundle"] == {
        name: sha256(BUNDLE / name) for name in ("app.css", "app.js", "index.html", "licences.txt")
    }


@pytest.mark.slow
def test_a_build_gives_the_bundle(tmp_path: Path) -> None:
    modules = node_modules()
    if not (modules / "esbuild").is_dir() or not shutil.which("node"):
        pytest.skip("node or esbuild missing (README.md of the tests)")
    page = shutil.copytree(PAGE, tmp_path / "page", ignore=shutil.ignore_patterns("node_modules"))
    (page / "node_modules").symlink_to(modules)
    subprocess.run(["node", "build.mjs", tmp_path / "bundle"], cwd=page, check=True, timeout=60)
    for name in ("app.css", "app.js", "index.html", "licences.txt", "hashes.json"):
        assert (tmp_path / "bundle" / name).read_bytes() == (BUNDLE / name).read_bytes(), name


def test_the_lock_file_has_hashes_and_no_addresses() -> None:
    lock = json.loads((PAGE / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 10
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())
    assert "://" not in (PAGE / "package-lock.json").read_text().replace("https://opencollective.com", "").replace(
        "https://github.com", ""
    )


def test_the_page_allows_nothing_but_its_own_host() -> None:
    html = (BUNDLE / "index.html").read_text()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy.startswith("default-src 'self'; img-src 'self' blob: data:;")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert re.findall(r"(?:src|href)=\"(?!data:,|#)([^\"]+)\"", html) == ["app.css", "app.js"]
    for path in PAGE.glob("src/*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", path.read_text()), path.name


@contextmanager
def served(app: Any) -> Iterator[str]:
    """The address of a local server of an application, while it runs."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    (socket,) = server.servers[0].sockets
    yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="module")
def sites() -> gpd.GeoDataFrame:
    """Three slumps were rejected by reviewers, five confirmed."""
    sites = generated_sites(SLUMPS, YEARS, spread=3e5)
    order = {slump: number for number, slump in enumerate(sorted(set(sites["slump_id"])))}
    verdicts = dict(enumerate(["no"] * 3 + ["yes"] * 5))
    sites["verdict"] = [verdicts.get(order[slump], "") for slump in sites["slump_id"]]
    sites["reviewed"] = sites["verdict"] != ""
    sites["reviewers"] = sites["reviewed"].astype(int) * 2
    sites["agreement"] = [0.5 if verdict else float("nan") for verdict in sites["verdict"]]
    return sites


@pytest.fixture(scope="module")
def root(sites: gpd.GeoDataFrame, tmp_path_factory: pytest.TempPathFactory) -> StoreLocation:
    """A store with an inventory, pictures, scenes and their items."""
    root = StoreLocation(str(tmp_path_factory.mktemp("mapped") / "store"))
    publish_inventory(root, sites)
    publish_chips(root, sites, missed=2021)
    publish_items(root, YEARS)
    former = sites.to_crs(4326).iloc[-1]
    record = {
        "id": str(uuid.uuid4()), "time": "2026-01-01T00:00:00Z", "reviewer": "Former", "verdict": "yes", "note": "",
        "slump_id": "rts-2019-0", "site_id": "rts-2019-0", "year": 2019, "outline": mapping(former.geometry),
        "mean_probability": None, "inventory_version": "before",
    }  # fmt: skip
    VerdictStore(root).append(parsed_request(json.dumps({"verdicts": [record]}).encode()))
    update_map(root, ["sentinel2", "planet"], ui_url="https://someone:secret@dagster.example.org/ui/")
    return root


@pytest.fixture(scope="module")
def slump(sites: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The sites of a confirmed slump in three years."""
    years = sites[sites["verdict"] == "yes"].groupby("slump_id").size()
    return sites[sites["slump_id"] == years[years == 3].index[0]]


def browse(script: str, *arguments: object) -> dict[str, Any]:
    """What a script prints that uses the page in Chromium: `node SCRIPT NODE_MODULES CHROMIUM ARGUMENTS...`."""
    folder = node_modules()
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    needs = {
        "node": shutil.which("node"),
        "chromium": chromium,
        "playwright-core": (folder / "playwright-core").is_dir(),
    }
    if missing := [name for name, there in needs.items() if not there]:
        pytest.skip(f"{', '.join(missing)} missing (README.md of the tests)")
    path = Path(__file__).with_name(script)
    done = subprocess.run(["node", path, folder, chromium, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def used(root: StoreLocation, slump: gpd.GeoDataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser shows; `browse.mjs` describes what is done with it."""
    shots = tmp_path_factory.mktemp("screenshots")
    with served(map_application(root)) as host, served(map_application(root, token=TOKEN)) as reviewed:
        page, review = f"{host}/catalog/map/index.html", f"{reviewed}/catalog/map/index.html?review#token={TOKEN}"
        result = browse("browse.mjs", page, shots, slump["slump_id"].iloc[0], review)
    return {**result, "served": {host.partition("//")[2], reviewed.partition("//")[2]}, "page": page}


POINTS = 12


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a browser shows of a sample of points, by `browse_sample.mjs`, with the store and the points."""
    folder = tmp_path_factory.mktemp("sampled")
    root = StoreLocation(str(folder / "store"))
    sites = generated_sites(16, [2022, 2023], spread=5e4)
    publish_inventory(root, sites)
    publish_items(root, [2022, 2023])
    points = publish_sample(root, sites, 2023, POINTS)
    update_map(root, ["sentinel2", "planet"])
    with served(map_application(root)) as host, served(map_application(root, token=TOKEN)) as reviewed:
        page, review = f"{host}/catalog/map/index.html", f"{reviewed}/catalog/map/index.html?review#token={TOKEN}"
        result = browse("browse_sample.mjs", page, folder, review)
    return {**result, "root": root, "sample": points}


def shown(summary: str) -> int:
    """The number of slumps in the header."""
    return int(summary.partition(" of ")[0])


@pytest.mark.slow
def test_no_request_leaves_the_hosts_of_the_page(used: dict[str, Any]) -> None:
    assert set(used["hosts"]) == used["served"]
    assert used["problems"] == [], "errors, dialogs, or violations of the content policy"


@pytest.mark.slow
def test_outlines_are_read_by_ranges(used: dict[str, Any], root: StoreLocation) -> None:
    (size,) = [path.stat().st_size for path in root.path.glob("catalog/map/*/sites.fgb")]
    assert len(used["ranges"]) > 10
    assert {status for status, _, _ in used["ranges"]} == {206}
    assert max(length for _, length, _ in used["ranges"]) < size


@pytest.mark.slow
def test_the_filters_show_what_the_inventory_contains(used: dict[str, Any], sites: gpd.GeoDataFrame) -> None:
    explore = used["explore"]
    last = sites.sort_values("year").drop_duplicates("slump_id", keep="last")
    accepted = last[last["verdict"] != "no"]
    assert explore["listed"] == 25
    assert explore["summary"] == f"{SLUMPS - 3} of {SLUMPS} slumps · {len(sites)} sites in 3 years"
    kept = sites[sites["verdict"] != "no"]
    assert explore["onlyYear"][1] == "2022"
    assert shown(explore["onlyYear"][0]) == (kept["year"] == 2022).sum()
    assert shown(explore["upTo"]) == kept[kept["year"] <= 2022]["slump_id"].nunique()
    assert shown(explore["probable"]) == ((100 * accepted["mean_probability"]).round() >= 80).sum()
    assert shown(explore["seen"]) == (accepted["seen"] >= 5).sum()
    assert shown(explore["share"]) == (accepted["seen"] >= 0.6 * accepted["observable"]).sum()
    assert shown(explore["rejected"][0]) == SLUMPS
    assert explore["rejected"][1].endswith("rejected")
    assert shown(explore["reviewed"]) == 8
    assert explore["legend"].split("\n")[0] == "below 0.5"
    assert explore["support"].split("\n")[-1] == "all"
    assert explore["colours"] >= 6
    assert explore["footprints"] == explore["coverage"] == 8 * 12 * len(YEARS)
    assert "colour=support" in explore["hash"]
    assert "year=2022" in explore["hash"]
    assert explore["restored"] == [{"x": -2_000_000, "y": 100_000, "r": 500}, "2021", "3"]


@pytest.mark.slow
def test_the_map_is_moved_and_read_by_pointer_and_keyboard(used: dict[str, Any]) -> None:
    explore = used["explore"]
    assert explore["focusAfterSkip"] == "map"
    assert explore["moved"] > 1e5
    assert explore["zoomed"] == pytest.approx(0.5, abs=0.2)
    assert explore["dragged"] < -1e5
    assert explore["clicked"][0] == explore["clicked"][1]
    assert explore["closed"] is True
    assert explore["entered"] == ["card-title", 1]
    assert "slump=rts-" in explore["view"]


@pytest.mark.slow
def test_the_card_shows_all_years(used: dict[str, Any], slump: gpd.GeoDataFrame) -> None:
    card, last = used["explore"]["card"], slump.iloc[-1]
    facts = card["facts"].split("\n")
    assert facts[1] == "in 3 years, 2021–2023"
    assert facts[3] == "2021-07-01 – 2023-08-30"
    growth = 100 * (last["area_ha"] / slump["area_ha"].iloc[0] - 1)
    assert facts[5] == f"{last['area_ha']:.2f} ha in 2023 (+{growth:.0f} % since 2021)"
    assert facts[7] == f"{slump['seen'].sum()} of {slump['observable'].sum()} observing scenes detect it"
    assert facts[11] == "a thaw slump (2 reviewers, agreement 50 %)"
    assert card["pictures"] == [
        ["2021 07-15 not detected", 96], ["2022 07-15 detected", 96], ["2023 07-15 detected", 96]
    ]  # fmt: skip
    assert card["curve"] == "Area: " + ", ".join(f"{each.year} {each.area_ha:.2f} ha" for each in slump.itertuples())
    assert card["dots"] == 3
    ui = "https://dagster.example.org/ui/assets"
    assert card["years"][0] == f"{ui}/inventory/rts?view=partitions&partition=2023"
    scene = used["explore"]["scene"]
    scene_id = last["scenes"].split(",")[0]
    host = used["page"].removesuffix("/catalog/map/index.html")
    assert scene["text"].startswith("2023-07-01 T08W")
    assert "thumbnail – Thumbnail" in scene["text"]
    assert scene["links"] == [
        f"{host}/catalog/stac/sentinel2/{scene_id}/1.json",
        f"{host}/products/sentinel2/{scene_id}/1/thumbnail.jpg",
        f"{ui}/sentinel2/products?view=partitions&partition={scene_id}",
    ]


@pytest.mark.slow
def test_a_link_leads_to_a_slump_and_never_contains_the_token(used: dict[str, Any], slump: gpd.GeoDataFrame) -> None:
    name = slump["slump_id"].iloc[0]
    linked = used["explore"]["linked"]
    assert linked["slump"] == name
    assert linked["hash"].startswith("#token=secret&")
    assert f"slump={name}" in linked["hash"]
    assert linked["link"] == f"{used['page']}#slump={name}"
    assert used["explore"]["missing"].endswith("rts-none is not among them")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["review", "endpoint"])
def test_twenty_slumps_are_reviewed_by_keyboard_and_the_review_is_resumed(used: dict[str, Any], kind: str) -> None:
    review = used[kind]
    assert review["progress"] == f"20 of {SLUMPS - 3} reviewed"
    assert review["who"] == NAME, "names are text"
    assert review["injected"] == 0
    assert review["back"] == "redraw"
    assert len(set(review["slumps"])) == 20
    assert review["remembered"] == NAME
    assert review["resumed"][0] == review["progress"]
    assert review["resumed"][1] not in review["slumps"]
    assert review["second"] == [f"0 of {SLUMPS - 3} reviewed", review["slumps"][0]]
    assert (review.get("former") == f"1 of {SLUMPS - 3} reviewed") == (kind == "endpoint"), "known by its place"
    assert review["unreviewed"] == f"0 of {SLUMPS - 8} reviewed"
    assert ("token=" in review["hashAfterReload"]) == (kind == "endpoint")


@pytest.mark.slow
def test_a_static_page_exports_the_verdicts_of_all_its_reviewers(used: dict[str, Any], sites: gpd.GeoDataFrame) -> None:
    review = used["review"]
    assert review["nameless"].startswith("Enter a name")
    assert re.fullmatch(r"verdicts-Grace-\d{4}-\d\d-\d\d\.json", review["file"])
    verdicts = parsed_export(json.dumps(review["exported"]).encode(), review["file"])
    assert [each.reviewer for each in verdicts] == [NAME] * 20 + ["Grace"]
    assert [each.verdict for each in verdicts] == ["yes", "no", "unsure", "redraw"] * 5 + ["no"]
    assert [each.note for each in verdicts[:2]] == ["a note <script>alert(2)</script> y n", ""]
    outlines = sites.set_index("site_id")
    for record in review["exported"]["verdicts"]:
        site = outlines.loc[record["site_id"]]
        assert (record["slump_id"], record["year"]) == (site["slump_id"], site["year"])
        assert record["mean_probability"] == pytest.approx(site["mean_probability"])
        outline = gpd.GeoSeries([shape(record["outline"])], crs=4326).to_crs(sites.crs)[0]
        assert outline.symmetric_difference(site["geometry"]).area < 0.01 * site["geometry"].area


@pytest.mark.slow
def test_the_endpoint_stores_the_verdicts(used: dict[str, Any], root: StoreLocation) -> None:
    stored = [each for each in VerdictStore(root).verdicts() if each.reviewer != "Former"]
    stored.sort(key=lambda each: each.time)
    assert [each.reviewer for each in stored] == [NAME] * 20 + ["Grace"]
    assert [each.verdict for each in stored] == ["yes", "no", "unsure", "redraw"] * 5 + ["no"]
    assert [each.slump_id for each in stored[:20]] == used["endpoint"]["slumps"]
    exported = used["endpoint"]["exported"]["verdicts"]
    assert [each["reviewer"] for each in exported] == ["Grace"], "of this reviewer; the store has the others"


@pytest.mark.slow
def test_the_page_fits_a_phone(used: dict[str, Any]) -> None:
    phone = used["phone"]
    assert phone["home"] == phone["review"] == [375, 375], "nothing sticks out"
    assert phone["panel"] == [True, 375, 375]
    width, screen, map_height, card_height, has_panel = phone["card"]
    assert (width, screen, has_panel) == (375, 375, False)
    assert map_height > 180
    assert card_height > 250
    assert phone["progress"] == f"1 of {SLUMPS - 3} reviewed"


@pytest.mark.slow
def test_axe_finds_nothing_serious_and_enough_contrast(used: dict[str, Any]) -> None:
    assert used["axe"].keys() == {"home", "card", "dialog", "review", "phone panel", "phone card"}
    assert [problem for problems in used["axe"].values() for problem in problems] == []


@pytest.mark.slow
def test_the_points_of_a_sample_are_reviewed_by_keyboard_without_the_outlines(sampled: dict[str, Any]) -> None:
    review, ids = sampled["endpoint"], sampled["sample"]["sample_id"].tolist()
    assert sampled["problems"] == []
    assert review["dialog"] == {
        "tasks": ["Slumps of the map", f"Area sample 1 of 2023: {POINTS} points"],
        "text": "Did the point lie in a thaw slump in 2023? One random point after the other; outlines are hidden "
        "until you have decided.",
        "order": False,
    }
    assert review["question"] == "Point 1: in a thaw slump in 2023?"
    assert review["buttons"] == ["yes", "no", "unsure"]
    assert review["panel"] is False, "it lists the slumps"
    hidden, visible = [False, False, True], [True, True, True]
    assert [review[name] for name in ("layers", "early", "late", "hiddenAgain")] == [hidden, hidden, visible, hidden]
    first = sampled["sample"].to_crs(3413).iloc[0]
    assert review["centre"]["x"] == pytest.approx(first.geometry.x, abs=2)
    assert review["centre"]["y"] == pytest.approx(first.geometry.y, abs=2)
    assert review["card"].split("\n")[:3:2] == [ids[0], f"{first.lat:.5f}° N, {-first.lon:.5f}° W"]
    assert "detected" not in review["card"]
    assert review["picture"] == 96
    observing = generated_scenes(2023).contains(sampled["sample"].geometry.iloc[0]).sum()
    assert review["scenes"] == observing > 0, "those of 2023"
    assert review["redraw"] == f"0 of {POINTS} reviewed"
    assert review["back"] == "yes"
    assert review["points"] == ids[:3]
    assert review["axe"] == []


@pytest.mark.slow
def test_the_review_of_a_sample_is_resumed_and_ends_with_the_map_as_it_was(sampled: dict[str, Any]) -> None:
    review, ids = sampled["endpoint"], sampled["sample"]["sample_id"].tolist()
    assert review["progress"] == f"3 of {POINTS} reviewed"
    assert review["resumed"] == [review["progress"], ids[3]]
    assert review["noPicture"] == [
        ids[WITHOUT_TILE], "There is no picture: no tile of the scenes that observe the point is stored. The clearest "
        "scene is of 2023-07-04.",
    ]  # fmt: skip
    assert review["after"] == [[True, True, False], True, True]
    assert review["slumpOptions"] is True
    assert review["slumps"] == ["0 of 16 reviewed", 4]


@pytest.mark.slow
def test_verdicts_about_points_are_stored_apart_from_those_about_slumps(sampled: dict[str, Any]) -> None:
    points = sampled["sample"].set_index("sample_id")
    stored = PointVerdictStore(sampled["root"]).verdicts()
    assert [each.verdict for each in stored] == ["yes", "no", "unsure", "no", "no", "no"]
    assert [each.sample_id for each in stored] == points.index[:WITHOUT_TILE].tolist()
    assert [each.note for each in stored[:3]] == ["", "a note, yes", ""]
    for each in stored:
        assert each.point == points.loc[each.sample_id, ["lon", "lat"]].tolist()
        assert (each.reviewer, each.year, each.inventory_version) == ("Ada", 2023, "of-the-sample")
    assert VerdictStore(sampled["root"]).verdicts() == []
    (exported,) = parsed_export(json.dumps(sampled["exported"]).encode(), "a file")
    assert (exported.reviewer, exported.subject) == ("Grace", points.index[0])
