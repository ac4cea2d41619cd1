"""What items take from the items of their scenes: real items of each provider, and invalid values."""

import json
from pathlib import Path
from typing import Any

import pytest

from darts_assets.catalog.acquisition_properties import acquisition_extensions, acquisition_properties

CDSE = "data/cdse_stac/official_example_T13VEK/S2A_MSIL2A_20220217T183431_N0510_R027_T13VEK_20240516T022440.json"


def test_a_real_item_of_cdse(shared: Path) -> None:
    found_in = json.loads((shared / CDSE).read_text())
    properties = acquisition_properties(found_in, {"cloud_cover": 3.0})
    assert properties == {
        "eo:cloud_cover": 41.21, "eo:snow_cover": 58.787221, "view:incidence_angle": 4.031093554485443,
        "view:azimuth": 258.25457702138465, "view:sun_azimuth": 171.648044763495,
        "view:sun_elevation": 15.295893422957406, "platform": "sentinel-2a", "constellation": "sentinel-2",
        "instruments": ["msi"],
    }  # fmt: skip
    assert [uri.split("/")[3] for uri in acquisition_extensions(properties)] == ["eo", "view"]


def test_without_the_item_the_metadata_of_the_products_remain() -> None:
    metadata = {"cloud_cover": 12.5, "sun_elevation": 30.0, "datetime": "2023-07-15T20:09:01+00:00"}
    assert acquisition_properties(None, metadata) == {"eo:cloud_cover": 12.5, "view:sun_elevation": 30.0}
    assert acquisition_extensions({"gsd": 10}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eo:cloud_cover", 101), ("eo:cloud_cover", "12"), ("eo:cloud_cover", True), ("view:off_nadir", -1),
        ("view:sun_elevation", float("nan")), ("platform", 2), ("instruments", "msi"), ("instruments", []),
    ],
)  # fmt: skip
def test_invalid_values_are_left_out(name: str, value: Any) -> None:
    properties = {"view:azimuth": 10, name: value}
    assert acquisition_properties({"properties": properties}, {}) == {"view:azimuth": 10}
