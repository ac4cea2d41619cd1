"""Scene ids: their form for each provider, and the fields of Sentinel-2 product names."""

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from darts_assets.errors import SceneError

_TILE = r"(?:0[1-9]|[1-5]\d|60)[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]"
_TIME = r"\d{8}T\d{6}"
_SHOWN = 10

_FORMS: dict[str, tuple[re.Pattern[str], str]] = {
    "cdse": (
        re.compile(rf"S2[A-Z]_MSIL2A_{_TIME}_N\d{{4}}_R\d{{3}}_T{_TILE}_{_TIME}"),
        "S2A_MSIL2A_20230615T123456_N0509_R012_T33UUP_20230615T145312",
    ),
    "earth_search": (
        # Element 84 uses zones below 10 with and without the leading zero.
        re.compile(rf"S2[A-Z]_(?:{_TILE}|[1-9][C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])_\d{{8}}_\d+_L2A"),
        "S2A_33UUP_20230615_0_L2A",
    ),
    "planetary_computer": (
        re.compile(rf"S2[A-Z]_MSIL2A_{_TIME}_R\d{{3}}_T{_TILE}_{_TIME}"),
        "S2A_MSIL2A_20230615T123456_R012_T33UUP_20230615T145312",
    ),
    "earth_engine": (re.compile(rf"{_TIME}_{_TIME}_T{_TILE}"), "20230701T194909_20230701T195350_T11XNA"),
    "cdse_mosaic": (
        re.compile(rf"Sentinel-2_mosaic_\d{{4}}_Q[1-4]_{_TILE}_\d+_\d+"),
        "Sentinel-2_mosaic_2024_Q3_33UUP_0_0",
    ),
}

_PRODUCT = re.compile(rf"(S2[A-Z])_MSIL2A_({_TIME})_N(\d{{2}})(\d{{2}})_R(\d{{3}})_T({_TILE})_({_TIME})")
_DATASTRIP = re.compile(rf"_S({_TIME})_N")
_DATATAKE = re.compile(rf"^(?:GS2[A-Z]_|S2[A-Z]_MSIL2A_)?({_TIME})_")
_DAY = re.compile(r"(?:^|_)(\d{8})(?=T|_)")
_MOSAIC = re.compile(r"Sentinel-2_mosaic_(\d{4})_Q([1-4])_")
_TILE_IN_ID = re.compile(r"_T?(\d{1,2})([C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])(?=_|$)")
_TILE_GIVEN = re.compile(r"(?:MGRS-|T)?(\d{1,2})([A-Z]{3})")


class MalformedIdsError(SceneError):
    """Ids of an unknown form.

    Attributes:
        wrong: these ids.
        understood: provider -> the valid ids of the same request.
    """

    def __init__(self, wrong: Sequence[str], understood: Mapping[str, Sequence[str]]) -> None:
        self.wrong = tuple(wrong)
        self.understood = {provider: tuple(ids) for provider, ids in understood.items()}
        expected = ", ".join(f"{example} ({provider})" for provider, (_, example) in _FORMS.items())
        super().__init__(
            f"{len(wrong)} malformed scene id(s): {listed(wrong)}. Expected the form of one of: {expected}"
        )


class UnknownScenesError(SceneError):
    """Well-formed ids that the service does not have.

    Attributes:
        scene_ids: these ids.
    """

    def __init__(self, scene_ids: Sequence[str], where: str) -> None:
        self.scene_ids = tuple(scene_ids)
        super().__init__(f"{where} does not have {len(scene_ids)} of the scene ids: {listed(scene_ids)}")


@dataclass(frozen=True, slots=True)
class Product:
    """Acquisition and version of a Sentinel-2 L2A product.

    Attributes:
        acquisition: satellite, sensing time of the datatake, relative orbit and tile.
        baseline: processing baseline such as `05.09`.
        datastrip: start of the datastrip, "" if unknown. A datatake that was downlinked in two parts has two; where one
            ends inside a tile, two products of one acquisition complement each other.
        made: product time; the later of two otherwise equal products replaces the other.
    """

    acquisition: tuple[str, ...]
    baseline: str
    datastrip: str
    made: str


def bare_id(text: str) -> str:
    """A scene id without blanks around it and without the suffix `.SAFE` of a product's folder."""
    return text.strip().removesuffix("/").removesuffix(".SAFE")


def by_provider(scene_ids: Iterable[str]) -> dict[str, list[str]]:
    """Ids grouped by the provider of their form (`cdse`, `earth_search`, ...), in their order, without repetitions.

    Raises:
        MalformedIdsError: if ids have an unknown form; it lists all of them, and contains the valid ones.
    """
    known: dict[str, list[str]] = {}
    wrong = []
    for scene_id in dict.fromkeys(bare_id(str(text)) for text in scene_ids):
        provider = next((name for name, (form, _) in _FORMS.items() if form.fullmatch(scene_id)), None)
        if provider is None:
            wrong.append(scene_id)
        else:
            known.setdefault(provider, []).append(scene_id)
    if wrong:
        raise MalformedIdsError(wrong, known)
    return known


def tile_ids(given: Iterable[str]) -> tuple[str, ...]:
    """MGRS tiles as `33UUP`, from `33UUP`, `T33UUP`, `MGRS-33UUP` or lower case; without repetitions.

    Raises:
        SceneError: if ids are not MGRS tiles; it lists all of them.
    """
    tiles: list[str] = []
    wrong: list[str] = []
    for text in given:
        match = _TILE_GIVEN.fullmatch(str(text).strip().upper())
        tile = f"{int(match[1]):02d}{match[2]}" if match else ""
        (tiles if re.fullmatch(_TILE, tile) else wrong).append(tile or str(text))
    if wrong:
        raise SceneError(f"{len(wrong)} malformed tile id(s): {listed(wrong)}. Expected MGRS tiles such as 33UUP")
    return tuple(dict.fromkeys(tiles))


def tile_of_id(scene_id: str) -> str | None:
    """The MGRS tile in a scene id of any provider, such as `33UUP`."""
    match = _TILE_IN_ID.search(scene_id)
    return f"{int(match[1]):02d}{match[2]}" if match else None


def quarter_of_id(mosaic_id: str) -> tuple[int, int] | None:
    """Year and quarter (1 to 4) in the id of a mosaic."""
    match = _MOSAIC.match(mosaic_id)
    return (int(match[1]), int(match[2])) if match else None


def product_of(item: Mapping[str, Any]) -> Product | None:
    """The product of a STAC item, None if neither its id nor a property is a product name."""
    properties = item["properties"]
    for name in (item["id"], properties.get("s2:product_uri")):
        if match := _PRODUCT.match(str(name)):
            satellite, sensed, major, minor, orbit, tile, made = match.groups()
            datastrip = _DATASTRIP.search(str(properties.get("eopf:datastrip_id") or properties.get("s2:datastrip_id")))
            start = datastrip[1] if datastrip else ""
            return Product((satellite, sensed, orbit, tile), f"{major}.{minor}", start, made)
    return None


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One pass of a satellite over a tile, whichever source has it.

    Attributes:
        datatake: sensing time of the datatake, as in names of products: `20230615T210021`.
        tile: MGRS tile.
    """

    datatake: str
    tile: str


def acquisition_of(item: Mapping[str, Any]) -> tuple[Acquisition, str] | None:
    """Acquisition of a scene and start of its datastrip ("" if unknown), None if the item does not contain it.

    By the name of the product, else by the datatake (in a property or an id of Earth Engine) and the tile.
    """
    product = product_of(item)
    if product is not None:
        _, datatake, _, tile = product.acquisition
        return Acquisition(datatake, tile), product.datastrip
    properties, scene_id = item["properties"], str(item["id"])
    tile = tile_of_id(scene_id) or tile_of_id(f"_{str(properties.get('grid:code')).removeprefix('MGRS-')}") or ""
    named = _DATATAKE.search(str(properties.get("s2:datatake_id") or properties.get("eopf:datatake_id") or scene_id))
    strip = _DATASTRIP.search(str(properties.get("eopf:datastrip_id") or properties.get("s2:datastrip_id")))
    return (Acquisition(named[1], tile), strip[1] if strip else "") if named and tile else None


def day_of_id(scene_id: str) -> dt.date | None:
    """The first day in a scene id of any provider, that of the acquisition; it may be a day off around midnight."""
    match = _DAY.search(scene_id)
    try:
        return dt.datetime.strptime(match[1], "%Y%m%d").date() if match else None
    except ValueError:
        return None


def listed(names: Sequence[str]) -> str:
    """The first names of a list and the number of the others, for messages."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(repr(name) for name in names[:_SHOWN]) + more
