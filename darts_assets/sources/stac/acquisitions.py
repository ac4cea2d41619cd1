"""Filter for the newest processing of each acquisition in a stream of items."""

import datetime as dt
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pystac.utils import str_to_datetime

from darts_assets.sources.stac.scene_ids import Product, product_of

logger = logging.getLogger(__name__)

Item = dict[str, Any]

# Sensing times of a tile differ by seconds between processings of an acquisition, and by more between passes.
_APART = dt.timedelta(minutes=5)


@dataclass
class _Acquisition:
    """State of an acquisition.

    Attributes:
        baseline: newest processing baseline.
        made: datastrip -> product time of the newest product of that baseline.
        items: datastrip -> that product, until it is released.
        time: sensing time of the first item.
    """

    baseline: str
    time: dt.datetime
    made: dict[str, str] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)

    def add(self, product: Product, item: Item) -> bool:
        """Add a product; returns whether it is newer than the others."""
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
    """The newest processing baseline of each acquisition, and of it the latest product of each datastrip.

    Args:
        items: sorted by time, ascending or descending. Items of five minutes are held in memory, of earlier ones only
            the names. An item that is newer than one already yielded is yielded, too, with a warning.
        hold: if False, an item is yielded at once unless a newer one came before.
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
            logger.warning("%s came after an older processing of the same acquisition; both are returned", item["id"])
        held[product.acquisition] = acquisition
    for acquisition in held.values():
        yield from _release(acquisition)


def sensing_time(item: Mapping[str, Any]) -> dt.datetime:
    """Sensing time of a STAC item, UTC."""
    properties = item["properties"]
    return str_to_datetime(properties.get("datetime") or properties["start_datetime"]).astimezone(dt.UTC)


def _release(acquisition: _Acquisition) -> list[Item]:
    released = list(acquisition.items.values())
    acquisition.items.clear()
    return released
