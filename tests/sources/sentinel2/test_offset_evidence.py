"""Which offset a scene gets where its item contradicts itself."""

from typing import Any

import pytest

from darts_assets.sources.sentinel2.offset_evidence import decide_offset, processing_baseline

OLD = "S2A_MSIL2A_20210715T200901_N0301_R128_T08WMB_20210716T012345"
NEW = "S2A_MSIL2A_20230715T200901_N0509_R128_T08WMB_20230716T012345"
OWN = "S2A_MSIL2A_20230715T200901_N9999_R128_T08WMB_20230716T012345"
"""Of a product that a user has made with Sen2Cor."""
EARTH_SEARCH = "S2A_08WMB_20230715_0_L2A"
FLAG = "earthsearch:boa_offset_applied"


def item(scene_id: str, sensed: str = "2023-07-15", **properties: Any) -> dict[str, Any]:
    named = {name.replace("__", ":"): value for name, value in properties.items()}
    return {"id": scene_id, "properties": {"datetime": f"{sensed}T20:09:01Z", **named}}


@pytest.mark.parametrize(
    ("given", "declared", "is_original", "expected", "evidence"),
    [
        # CDSE declares -0.1 for every baseline.
        (item(OLD), -0.1, True, 0.0, "processing baseline 03.01 (id)"),
        (item(OLD), -0.1, False, 0.0, "processing baseline 03.01 (id)"),
        (item(NEW), -0.1, True, -0.1, "processing baseline 05.09 (id)"),
        (item(NEW), None, False, -0.1, "processing baseline 05.09 (id)"),
        # The id has precedence over the product name, and that over the version.
        (item(OLD, processing__version="05.09"), -0.1, True, 0.0, "processing baseline 03.01 (id)"),
        (item(NEW, processing__version="03.01"), -0.1, True, -0.1, "processing baseline 05.09 (id)"),
        (item("a", s2__product_uri=f"{OLD}.SAFE", processing__version="05.09"), None, True, 0.0,
         "processing baseline 03.01 (s2:product_uri)"),
        (item("a", "2020-07-15", sentinel__product_id=OLD), -0.1, False, 0.0,
         "processing baseline 03.01 (sentinel:product_id)"),
        # Unpadded versions, and versions as numbers.
        (item("a", processing__version="5.1"), None, True, -0.1, "processing baseline 05.1 (processing:version)"),
        (item("a", processing__version=5.1), None, True, -0.1, "processing baseline 05.1 (processing:version)"),
        (item("a", "2020-07-15", s2__processing_baseline="2.14"), -0.1, True, 0.0,
         "processing baseline 02.14 (s2:processing_baseline)"),
        (item("a", "2020-07-15", s2__processing_baseline="N0214"), -0.1, True, 0.0,
         "processing baseline 02.14 (s2:processing_baseline)"),
        # Dates decide where the baseline is unknown.
        (item("a", processing__version="unknown"), None, True, -0.1, "the sensing time, 2023-07-15"),
        (item(OWN), None, True, -0.1, "the sensing time, 2023-07-15"),
        (item("a", "2020-07-15", s2__generation_time="2020-07-16T00:00:00Z"), -0.1, True, 0.0,
         "the time of production, 2020-07-16"),
        (item("S2A_MSIL2A_20200711T080611_R078_T35MNM_20201101T145944", "2020-07-11"), -0.1, False, 0.0,
         "the time of production, 2020-11-01"),
        # An old acquisition may have been reprocessed.
        (item("a", "2020-07-15", s2__generation_time="2023-07-16T00:00:00Z"), -0.1, True, -0.1,
         "the offset in the item"),
        (item("a", "2020-07-15"), -0.1, True, -0.1, "the offset in the item"),
        (item("a", "2020-07-15"), 0.0, True, 0.0, "the offset in the item"),
        (item("a", "2022-01-25"), None, True, None,
         "no processing baseline, no date that decides, and no raster:offset"),
        # A provider may have taken the offset off its own files, never off ESA's.
        (item(NEW), 0.0, False, 0.0, "the offset in the item"),
        (item(NEW), 0.0, True, -0.1, "processing baseline 05.09 (id)"),
        (item(EARTH_SEARCH, s2__product_uri=f"{NEW}.SAFE", **{FLAG: True}), -0.1, False, 0.0, FLAG),
        (item(EARTH_SEARCH, s2__product_uri=f"{NEW}.SAFE", **{FLAG: True}), -0.1, True, -0.1,
         "processing baseline 05.09 (s2:product_uri)"),
        (item(EARTH_SEARCH, s2__product_uri=f"{NEW}.SAFE", **{FLAG: False}), -0.1, True, -0.1,
         "processing baseline 05.09 (s2:product_uri)"),
        # Baselines before 04.00 have no offset that could be taken off.
        (item(EARTH_SEARCH, s2__product_uri=f"{OLD}.SAFE", **{FLAG: False}), -0.1, False, 0.0,
         "processing baseline 03.01 (s2:product_uri)"),
        (item(EARTH_SEARCH, s2__product_uri=f"{OLD}.SAFE", **{FLAG: True}), -0.1, False, 0.0,
         "processing baseline 03.01 (s2:product_uri)"),
        # The flag is false for converted files with and without the offset.
        (item(EARTH_SEARCH, s2__product_uri=f"{NEW}.SAFE", **{FLAG: False}), -0.1, False, None,
         f"processing baseline 05.09 (s2:product_uri) has -0.1 in ESA's files; {FLAG} is False, also for scenes from "
         "which the offset was taken off"),
        (item("a", "2020-07-15", **{FLAG: False}), -0.1, False, None,
         f"no baseline or date; {FLAG} is False, also for scenes from which the offset was taken off"),
    ],
)  # fmt: skip
def test_order_of_evidence(given, declared, is_original, expected, evidence):
    offset = decide_offset(given, declared, is_original=is_original)
    assert (offset.value, offset.evidence) == (expected, evidence)


@pytest.mark.parametrize(
    ("given", "declared", "contradicted"),
    [
        (item(NEW), -0.1, ""),
        (item(OLD, "2021-07-15"), 0.0, ""),
        (item(OLD, "2021-07-15"), -0.1, "the offset in the item (-0.1)"),
        (item(OLD, processing__version="05.09"), 0.0,
         "processing baseline 05.09 (processing:version) (-0.1), the sensing time, 2023-07-15 (-0.1)"),
    ],
)  # fmt: skip
def test_what_contradicts_the_decision(given, declared, contradicted):
    assert decide_offset(given, declared, is_original=True).contradicted == contradicted


def test_dates_are_no_evidence_for_other_sensors():
    assert decide_offset(item("a"), None, is_original=False, is_sentinel2=False).value is None
    assert decide_offset(item("a"), 0.0, is_original=False, is_sentinel2=False).value == 0


@pytest.mark.parametrize(
    ("given", "baseline"),
    [
        (item(OLD, processing__version="05.09"), "03.01"),
        (item("a", processing__version="05.10"), "05.10"),
        (item("a", processing__version=5), None),
        (item(OWN), None),
        (item(OWN, processing__version="99.99"), None),
        (item("a"), None),
    ],
)
def test_processing_baseline(given, baseline):
    assert processing_baseline(given) == baseline
