"""The check of the smallest object, and the config of the step in the graph."""

import dagster as dg
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from darts_assets.orchestration.scene_chain.polygons import PolygonsConfig, _mapping_unit


def grid(pixel: float) -> GeoBox:
    return GeoBox((10, 10), Affine(pixel, 0, 450_000, 0, -pixel, 7_720_000), "EPSG:32608")


@pytest.mark.parametrize(
    ("pixels", "pixel", "passed", "words"),
    [
        (9, 10, True, "objects from 9 pixels (900 m2) on are kept; 6 % of 6,543 known slumps are smaller"),
        (32, 3, True, "objects from 32 pixels (288 m2) on are kept; 1 % of"),
        (
            32,
            10,
            False,
            "objects of less than 32 pixels (3,200 m2) are removed: 29 % of 6,543 known slumps are smaller; ",
        ),
        (0, 10, True, "objects from 0 pixels (0 m2) on are kept; 0 % of"),
    ],
)
def test_the_check_gives_the_share_that_is_hidden(pixels: int, pixel: float, passed: bool, words: str) -> None:
    outcome = _mapping_unit({"min_object_size": pixels}, grid(pixel), 1000)
    assert (not outcome.problems) is passed
    assert outcome.description.startswith(words)
    assert outcome.metadata["smallest_m2"] == pixels * pixel**2


def test_run_config_of_former_versions_is_accepted() -> None:
    used = []

    @dg.op
    def polygons(config: PolygonsConfig) -> None:
        used.append((config.smallest_object(100), config.smallest_object(9)))

    @dg.job
    def postprocess() -> None:
        polygons()

    for config in ({"min_object_size": 32}, {"min_object_area_m2": 900}, {}):
        assert postprocess.execute_in_process({"ops": {"polygons": {"config": config}}}).success
    assert used == [(32, 32), (9, 100), (9, 32)]
    both = {"min_object_size": 32, "min_object_area_m2": 900}
    with pytest.raises(dg.Failure, match="are both given"):
        postprocess.execute_in_process({"ops": {"polygons": {"config": both}}})
