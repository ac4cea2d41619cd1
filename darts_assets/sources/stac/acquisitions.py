"""The newest processing of each acquisition, from items that come page by page."""

import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pystac.utils import str_to_datetime

from darts_assets.sources.stac.scene_ids import Product, product_of

logger = logging.getLogger(__name__)

Item = dict[str, Any]

# Two processings of an acquisition tell times of the same tile that are seconds apart; other passes are further off.
_APART = dt.timedelta(minutes=5)


@dataclass
class _Acquisition:
    """What is known of an acquisition.

    Attributes:
        baseline: the newest.
        made: datastrip -> product time of the newest product of that baseline.
        items: datastrip -> that product, as long as it is held.
        time: of the first that came.
    """

    baseline: str
    time: dt.datetime
    made: dict[str, str] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)

    def add(self, product: Product, item: Item) -> bool:
        """Whether the product is newer than what is known."""
        if product.baseline < self.baseline or (
            product.baseline == self.baseline and product.made <= self.made.get(product.datastrip, "")
        ):
            return False
        if product.baseline > self.baseline:
            self.baseline = product.baseline
            self.made.clear()
            self.items.clear()
        self.made[product.datastrip] = product.made
        self.items[product.datastrip] = item
        return True


def newest(items: Iterable[Item], *, hold: bool = True) -> Iterator[Item]:
    """Of each acquisition only the newest processing baseline, and of that the latest product of each datastrip.

    Args:
        items: in the order of their times, either way: those of five minutes are held, and of all that went before only
            the names are kept; when something newer comes too late, it is given too, and a warning says so.
        hold: if False, an item is given at once unless a newer one has come before.
    """
    known: dict[tuple[str, ...], _Acquisition] = {}
    held: dict[tuple[str, ...], _Acquisition] = {}
    for item in items:
        product = product_of(item)
        if product is None:
            yield item
            continue
        time = sensing_time(item)
        for key in [key for key, other in held.items() if abs(other.time - time) > _APART]:
            yield from _release(held.pop(key))
        acquisition = known.setdefault(product.acquisition, _Acquisition("", time))
        was_released = not acquisition.items and acquisition.baseline != ""
        if not acquisition.add(product, item):
            continue
        if not hold:
            yield from _release(acquisition)
            continue
        if was_released:
            logger.warning("%s came after an older processing of the same acquisition; both are given", item["id"])
        held[product.acquisition] = acquisition
    for acquisition in held.values():
        yield from _release(acquisition)


def sensing_time(item: Mapping[str, Any]) -> dt.datetime:
    """When a STAC item was sensed, UTC."""
    properties = item["properties"]
    return str_to_datetime(properties.get("datetime") or properties["start_datetime"]).astimezone(dt.UTC)


def _release(acquisition: _Acquisition) -> list[Item]:
    released = list(acquisition.items.values())
    acquisition.items.clear()
    return released
