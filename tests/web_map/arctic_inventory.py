"""Inventories in a store as `inventory/rts` and `inventory/slumps` publish them, with generated slumps."""

import datetime as dt
import io
import json
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from PIL import Image
from pyproj import Transformer

from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place
from darts_assets.stores.vectors import write_vectors

EQUAL_AREA = "EPSG:6931"
REGIONS = [(-135, 69), (-121, 72), (-160, 68), (70, 69), (100, 74), (150, 70), (-80, 70), (178, 66)]
"""Longitude and latitude of regions with slumps; the last one lies beside the antimeridian."""

CHIP = 96  # pixels


def generated_sites(slumps: int, years: Sequence[int], seed: int = 0, spread: float = 2.0e5) -> gpd.GeoDataFrame:
    """Sites as in `rts_sites`: each slump grows by a few percent a year.

    Args:
        slumps: number of slumps, in clusters around `REGIONS`.
        years: years with a site of each slump; a slump begins in any of the first three.
        seed: of the random numbers.
        spread: standard deviation of the distance from the centre of the region, metres.
    """
    random = np.random.default_rng(seed)
    centres = np.array([Transformer.from_crs(4326, EQUAL_AREA, always_xy=True).transform(*each) for each in REGIONS])
    region = np.arange(slumps) % len(REGIONS)
    places = centres[region] + random.normal(0, spread, (slumps, 2))
    radius = random.lognormal(3.9, 0.5, slumps)
    begin = random.integers(0, min(3, len(years)), slumps)
    probability = np.clip(random.beta(6, 2, slumps), 0.45, 0.99)
    lon, lat = Transformer.from_crs(EQUAL_AREA, 4326, always_xy=True).transform(*places.T)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    shape = 1 + 0.25 * random.normal(size=(slumps, 24)).cumsum(axis=1) / 5
    tables = []
    for number, year in enumerate(years):
        own = np.flatnonzero(begin <= number)
        grown = radius[own] * (1 + 0.06 * (number - begin[own]))
        rings = places[own, None, :] + (grown[:, None] * shape[own])[..., None] * np.stack(
            [np.cos(angles), np.sin(angles)], axis=-1
        )
        outlines = shapely.multipolygons([[polygon] for polygon in shapely.polygons(rings)])
        observable = random.integers(2, 12, len(own))
        seen = np.maximum(1, np.round(observable * random.beta(4, 2, len(own)))).astype(int)
        names = [
            f"rts-{years[begin[i]]}-{abs(lat[i]):.4f}N-{abs(lon[i]):.4f}{'W' if lon[i] < 0 else 'E'}-{i}" for i in own
        ]
        day = pd.Timestamp(f"{year}-07-01", tz="UTC")
        tables.append(
            pd.DataFrame(
                {
                    "slump_id": names,
                    "event": np.where(begin[own] == number, "new", "continued"),
                    "predecessors": "",
                    "site_id": [
                        name.replace(f"rts-{years[begin[i]]}", f"rts-{year}")
                        for name, i in zip(names, own, strict=True)
                    ],
                    "year": year,
                    "lon": lon[own],
                    "lat": lat[own],
                    "area_ha": shapely.area(outlines) / 1e4,
                    "seen": seen,
                    "observable": observable,
                    "days_seen": seen,
                    "days_observable": observable,
                    "first_date": day,
                    "last_date": day + pd.Timedelta(days=60),
                    "mean_probability": np.clip(probability[own] + random.normal(0, 0.03, len(own)), 0.3, 1),
                    "seen_whole": True,
                    "families": "sentinel2",
                    "scenes": [
                        ",".join(scene_id(region[i], year, k) for k in range(n)) for i, n in zip(own, seen, strict=True)
                    ],
                    "scenes_without": [
                        ",".join(scene_id(region[i], year, k) for k in range(n, m))
                        for i, n, m in zip(own, seen, observable, strict=True)
                    ],
                    "geometry": outlines,
                }
            )
        )
    table = gpd.GeoDataFrame(pd.concat(tables, ignore_index=True), crs=EQUAL_AREA)
    for name in ("first_date", "last_date"):
        table[name] = table[name].astype("datetime64[ms, UTC]")
    return table


def scene_id(region: int, year: int, number: int) -> str:
    """Id of a Sentinel-2 scene of a region."""
    day, tile = f"{year}07{number + 1:02d}", f"T08W{'ABCDEFGH'[region]}B"
    return f"S2A_MSIL2A_{day}T201851_N0510_R{region:03d}_{tile}_{day}T234500"


def generated_scenes(year: int, side: float = 5.0e5) -> gpd.GeoDataFrame:
    """Scenes of a year as in `inventory/rts`: twelve squares around each region."""
    project = Transformer.from_crs(4326, EQUAL_AREA, always_xy=True).transform
    rows = []
    for region, place in enumerate(REGIONS):
        x, y = project(*place)
        for number in range(12):
            shift = 8000 * number
            time = dt.datetime(year, 7, number + 1, 20, 18, 51, tzinfo=dt.UTC)
            hull = shapely.box(x - side + shift, y - side, x + side + shift, y + side)
            rows.append((scene_id(region, year, number), "sentinel2", time, "1", 0, hull))
    columns = ["scene_id", "family", "datetime", "data_version", "clouded_detections", "geometry"]
    table = gpd.GeoDataFrame(pd.DataFrame(rows, columns=columns), geometry="geometry", crs=EQUAL_AREA)
    return table.assign(datetime=table["datetime"].astype("datetime64[ms, UTC]"))


def publish_inventory(root: StoreLocation, sites: gpd.GeoDataFrame, facts: str = "1") -> None:
    """Publish sites as `inventory/slumps`, and scenes of their years."""
    write_vectors(
        Place(root.child("inventory", "slumps")), {"rts_sites": sites}, {"provenance": {"data_version": facts}}
    )
    for year in sorted(set(sites["year"])):
        write_vectors(Place(root.child("inventory", "rts", str(year))), {"scenes": generated_scenes(int(year))}, {})


def publish_chips(root: StoreLocation, sites: gpd.GeoDataFrame, missed: int | None = None) -> None:
    """Publish a picture of each site, in one file, and of a year `missed` without a detection."""
    place = Place(root.child("inventory", "chips"))
    rows, content = [], b""
    with place.new_version() as version:
        table = sites if missed is None else sites[sites["year"] != missed]
        for site in sites.itertuples():
            picture = chip(site.mean_probability, site.year)
            rows.append(
                {
                    "slump_id": site.slump_id,
                    "year": site.year,
                    "site_id": site.site_id,
                    "scene": site.scenes.partition(",")[0],
                    "datetime": pd.Timestamp(f"{site.year}-07-15", tz="UTC"),
                    "detected": site.year != missed,
                    "key": f"inventory/chips/{version.id}/chips.zip",
                    "offset": len(content),
                    "length": len(picture),
                    "width_m": 960.0,
                }
            )
            content += picture
        assert len(table)
        (version.location.path).mkdir(parents=True, exist_ok=True)
        (version.location.path / "chips.zip").write_bytes(content)
        pd.DataFrame(rows).to_parquet(version.location.path / "chips.parquet")
        place.publish(version, dict.fromkeys(("chips.parquet", "chips.zip"), version.id), {})


def chip(probability: float, year: int) -> bytes:
    """A WebP picture: bare ground in tundra."""
    random = np.random.default_rng(year)
    y, x = np.mgrid[:CHIP, :CHIP] - CHIP / 2
    ground = np.hypot(x, y * 1.4) < 14 + 2 * (year % 10) * probability
    pixels = np.where(ground[..., None], (176, 150, 118), (96, 116, 70)) + random.normal(0, 9, (CHIP, CHIP, 1))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "webp", quality=70)
    return buffer.getvalue()


def publish_items(root: StoreLocation, years: Sequence[int]) -> None:
    """The STAC catalog of the scenes, as far as the map reads it."""
    folder = Path(root.url) / "catalog" / "stac" / "sentinel2"
    links = []
    for year in years:
        for region in range(len(REGIONS)):
            for number in range(12):
                scene = scene_id(region, year, number)
                (folder / scene).mkdir(parents=True)
                assets = {
                    "thumbnail": {
                        "href": f"../../../../products/sentinel2/{scene}/1/thumbnail.jpg",
                        "title": "Thumbnail",
                    }
                }
                (folder / scene / "1.json").write_text(json.dumps({"id": scene, "assets": assets}))
                links.append({"rel": "item", "href": f"./{scene}/1.json", "title": scene})
    (folder / "collection.json").write_text(json.dumps({"links": links}))
    (folder.parent.parent / "catalog.json").write_text("{}")
