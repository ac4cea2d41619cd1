"""What makes two detections one site, and where its outline runs."""

from dataclasses import dataclass
from typing import Literal

from darts_assets.errors import SettingsError


@dataclass(frozen=True, slots=True)
class InventoryParameters:
    """How detections become sites.

    Attributes:
        min_overlap: detections of two scenes are of one site if they share this part of the smaller one's area. A
            quarter: neighbours that a pixel of misregistration lets overlap share less, and parts of one slump more.
        tolerance: metres. If the border of a scene's valid area cuts one of two detections, nobody knows how much they
            would share: then they are of one site as soon as they are this close. One and a half pixels of Sentinel-2;
            the map stretches lengths by 2 to 3 %.
        min_coverage: a scene observes a site if its valid area covers this part of the site's outline; one that sees
            the site observes it in any case.
        outline: `majority`, where at least half of the scenes that see the site, and look at the spot, have their
            detection; or `union`, where any has.

    Raises:
        SettingsError: for values out of range.
    """

    min_overlap: float = 0.25
    tolerance: float = 15.0
    min_coverage: float = 0.5
    outline: Literal["majority", "union"] = "majority"

    def __post_init__(self) -> None:
        _check_share("min_overlap", self.min_overlap)
        _check_share("min_coverage", self.min_coverage)
        if not 0 <= self.tolerance <= 1000:
            raise SettingsError(f"tolerance: 0 to 1000 metres, not {self.tolerance}")


@dataclass(frozen=True, slots=True)
class FollowParameters:
    """How sites are followed from year to year.

    Attributes:
        min_overlap: a site goes on with a slump if its outline and the slump's last one share this part of the
            smaller one's area.

    Raises:
        SettingsError: for values out of range.
    """

    min_overlap: float = 0.25

    def __post_init__(self) -> None:
        _check_share("min_overlap", self.min_overlap)


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise SettingsError(f"{name}: more than 0 and at most 1, not {value}")
