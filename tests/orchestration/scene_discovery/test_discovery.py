"""What a search for scenes reports."""

from collections import Counter

from darts_assets.orchestration.scene_discovery.discovery import DiscoveredScenes
from darts_assets.orchestration.scene_discovery.registration import Registered


def test_scenes_of_unknown_cover_are_in_the_summary() -> None:
    result = DiscoveredScenes(Registered(["a", "b"], ["b"]))
    assert result.summary == "2 scenes match (1 already registered, 1 new)."
    assert "unknown_cover" not in result.metadata()
    result.unknown_cover = Counter({"eo:snow_cover": 3, "eo:cloud_cover": 1})
    assert result.summary == (
        "2 scenes match (1 already registered, 1 new). Left out because their cover is unknown: 1 without "
        "eo:cloud_cover, 3 without eo:snow_cover (a limit of 100 includes them)."
    )
    assert result.metadata()["unknown_cover"].value == {"eo:snow_cover": 3, "eo:cloud_cover": 1}
