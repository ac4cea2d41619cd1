"""Planet's names: ids of images, and file names of products.

Ids are `20230817_191432_2442` or `20230817_191432_34_2442` (scenes: day, time, hundredths of a second in one or two
digits, satellite) and `4500474_2133707_2021-05-20_2419` (orthotiles: strip, cell of Planet's grid, day, satellite).
Files begin with the id, as in `20230817_191432_34_2442_3B_AnalyticMS_SR_8b_clip.tif`; suffixes after the product
(`_clip`, `_reproject`, `_file_format`) are the tools of the order, in the order of their use.
"""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from darts_assets.errors import SceneError
from darts_assets.sources.stac.scene_ids import listed

EXPECTED = (
    "20230817_191432_2442 or 20230817_191432_34_2442 (scene), or 4500474_2133707_2021-05-20_2419 in the folder of its "
    "strip (orthotile)"
)

Kind = Literal["sr", "toa", "udm2", "udm", "json", "xml"]
"""Surface reflectance, top-of-atmosphere digital numbers, usable data mask, the older unusable data mask, metadata."""

_SCENE = r"(?P<day>(?:19|20)\d{6})_(?P<time>\d{6})(?:_(?P<hundredths>\d{1,2}))?_(?P<satellite>[0-9a-fA-F]{4})"
_ORTHOTILE = r"(?P<strip>\d{6,8})_(?P<cell>\d{7})_(?P<date>\d{4}-\d{2}-\d{2})_(?P<of>[0-9a-fA-F]{4})"
_ID = re.compile(rf"(?:{_SCENE}|{_ORTHOTILE})(?=_|\.|$)")

_TOOLS = r"(?:_clip|_reproject|_file_format)*"
_KINDS: dict[Kind, re.Pattern[str]] = {
    "sr": re.compile(rf".*_SR(?:_8b)?(?:_harmonized)?{_TOOLS}\.tiff?", re.IGNORECASE),
    "toa": re.compile(rf".*_Analytic(?:MS)?(?:_8b)?{_TOOLS}\.tiff?", re.IGNORECASE),
    "udm2": re.compile(rf".*_udm2{_TOOLS}\.tiff?", re.IGNORECASE),
    "udm": re.compile(rf".*_udm{_TOOLS}\.tiff?", re.IGNORECASE),
    "json": re.compile(r".*_metadata\.json", re.IGNORECASE),
    # Has the coefficients of the digital numbers; other products have a *_metadata.xml as well.
    "xml": re.compile(rf".*_Analytic(?:MS)?(?:_8b)?_metadata{_TOOLS}\.xml", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class ImageId:
    """A parsed id.

    Attributes:
        id: the id itself.
        time: of the acquisition, UTC; midnight of its day for orthotiles.
        cell: of Planet's grid; None for scenes.
        satellite: four hexadecimal digits.
    """

    id: str
    time: dt.datetime
    cell: str | None
    satellite: str

    @property
    def item_type(self) -> str:
        """Planet's item type."""
        return "PSScene" if self.cell is None else "PSOrthoTile"


def image_id(text: str) -> ImageId | None:
    """The id at the start of a name; None if there is none, or its date does not exist."""
    match = _ID.match(text)
    if match is None:
        return None
    try:
        if match["strip"]:
            time = dt.datetime.strptime(match["date"], "%Y-%m-%d")
        else:
            time = dt.datetime.strptime(match["day"] + match["time"], "%Y%m%d%H%M%S")
    except ValueError:
        return None
    hundredths = dt.timedelta(milliseconds=10 * int(match["hundredths"] or 0))
    satellite = match["of"] or match["satellite"]
    return ImageId(match[0], time.replace(tzinfo=dt.UTC) + hundredths, match["cell"], satellite)


def is_id(text: str) -> bool:
    """Whether a text is exactly the id of an image."""
    parsed = image_id(text)
    return parsed is not None and parsed.id == text


def kind_of(name: str) -> Kind | None:
    """Kind of a file of a delivery, None for unused files (`_Visual.tif`, `_DN_RPC.TXT`, ...)."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(name)), None)


def check_ids(ids: Iterable[str]) -> tuple[list[str], SceneError | None]:
    """The well-formed ids without duplicates, and an error that lists the malformed ones."""
    given = list(dict.fromkeys(map(str, ids)))
    wrong: Sequence[str] = [text for text in given if not is_id(text)]
    error = SceneError(f"{len(wrong)} malformed Planet image id(s): {listed(wrong)}. Expected {EXPECTED}")
    return [text for text in given if text not in wrong], error if wrong else None
