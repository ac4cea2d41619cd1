"""Parameters of the inventory: how detections become sites, and how sites are followed from year to year."""

from typing import Literal

from pydantic import Field

from darts_assets.parameters import Parameters


class CoverageParameters(Parameters):
    """When a scene observes an outline."""

    min_coverage: float = Field(
        0.5,
        gt=0,
        le=1,
        description="A scene observes a site if this fraction of the site's outline is valid and clear, or if it has a "
        "detection of it. A detection with a smaller clear fraction does not count.",
    )


class SensorParameters(Parameters):
    """Whether families of scenes are used together."""

    sensors: Literal["together", "apart"] = Field(
        "together",
        description="Detections of all families form common sites and slumps (`together`), or each family has sites "
        "and slumps of its own, which only its scenes observe (`apart`).",
    )


class InventoryParameters(SensorParameters, CoverageParameters):
    """How detections become sites.

    The default of `min_overlap` separates neighbours that overlap by a pixel of misregistration from parts of one
    slump. The default of `tolerance` is one and a half pixels of Sentinel-2; the projection stretches lengths by 2 to
    3 %.
    """

    min_overlap: float = Field(
        0.25,
        gt=0,
        le=1,
        description="Detections of two scenes belong to one site if they share this fraction of the smaller one's "
        "area.",
    )
    tolerance: float = Field(
        15.0,
        ge=0,
        le=1000,
        description="Metres. If the border of a scene's valid area cuts one of two detections, they belong to one site "
        "if they are at most this far apart.",
    )
    min_support: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Detections that one scene separates and another one merges form one site if at least this "
        "fraction of the scenes that look at them merges them.",
    )
    outline: Literal["majority", "union"] = Field(
        "majority",
        description="Outline of a site: where at least half of the scenes that observe the spot have a detection "
        "(`majority`), or where any has (`union`).",
    )


class FollowParameters(SensorParameters, CoverageParameters):
    """How sites are followed from year to year."""

    min_overlap: float = Field(
        0.25,
        gt=0,
        le=1,
        description="A site continues a slump if its outline and the slump's last one share this fraction of the "
        "smaller one's area.",
    )
    stable_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="The change of a site is `stable` if its 95 % interval lies within this fraction of the earlier "
        "area.",
    )
