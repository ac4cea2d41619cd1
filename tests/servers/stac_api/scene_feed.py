"""A CDSE catalog that publishes scenes one after the other, for tests of sensors."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from darts_assets.sources.stac.services import CDSE
from tests.servers.stac_api.server import StacApi

Item = dict[str, Any]

TILES = {"08WMB": (-135.0, 68.0), "08WNB": (-133.0, 68.0)}
"""Tile -> the south-western corner of its scenes, which span a degree either way."""


def scene(number: int, published: dt.datetime, tile: str = "08WMB", **properties: Any) -> Item:
    """The item of a scene; another number is another acquisition."""
    sensed = dt.datetime(2024, 7, 1, tzinfo=dt.UTC) + dt.timedelta(minutes=10 * number)
    west, south = TILES[tile]
    corners = [(west, south), (west + 1, south), (west + 1, south + 1), (west, south + 1), (west, south)]
    name = f"S2A_MSIL2A_{sensed:%Y%m%dT%H%M%S}_N0511_R012_T{tile}_{sensed:%Y%m%dT%H%M%S}"
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": name, "links": [], "stac_extensions": [],
        "geometry": {"type": "Polygon", "coordinates": [corners]}, "bbox": [west, south, west + 1, south + 1],
        "properties": {
            "datetime": f"{sensed:%Y-%m-%dT%H:%M:%SZ}", "published": f"{published:%Y-%m-%dT%H:%M:%S.%fZ}",
            "eo:cloud_cover": 2.5, "eo:snow_cover": 0.0, "grid:code": f"MGRS-{tile}", "processing:version": "05.11",
            **properties,
        },
        "assets": {
            f"{band}_{metres}m": {"href": f"s3://eodata/{name}/{band}.jp2", "proj:code": "EPSG:32608"}
            for band, metres in (("B02", 10), ("B03", 10), ("B04", 10), ("B08", 10), ("SCL", 20))
        },
    }  # fmt: skip


@dataclass(frozen=True)
class SceneFeed:
    """The collection of CDSE in an API, empty at first."""

    api: StacApi

    def __post_init__(self) -> None:
        self.api.load(CDSE.collection, [])

    def publish(self, items: Iterable[Item]) -> list[str]:
        """Let items appear, or appear again; returns their ids."""
        from pypgstac.db import PgstacDB
        from pypgstac.load import Loader, Methods

        items = [{**item, "collection": CDSE.collection} for item in items]
        with PgstacDB(dsn=self.api.dsn) as database:
            Loader(database).load_items(iter(items), Methods.upsert)
        return [item["id"] for item in items]
