"""A scene as the inventory knows it."""

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """A scene; another `data_version` means other polygons.

    Attributes:
        scene_id: unique.
        family: such as `sentinel2`.
        datetime: sensing time, UTC.
        data_version: of its polygons.
    """

    scene_id: str
    family: str
    datetime: dt.datetime
    data_version: str
