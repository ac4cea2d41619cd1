"""Filters of a stream of items: the newest processing of each acquisition, then its cloud and snow cover."""

import datetime as dt
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pystac.utils import str_to_datetime
from shapely.geometry.base import BaseGeometry

from darts_assets.geo.antimeridian import footprint
from darts_assets.sources.stac.scene_ids import Product, product_of

logger = logging.getLogger(__name__)

Item = dict[str, Any]

# Sensing times of a tile differ by seconds between processings of an acquisition, and by more between passes.
_APART = dt.timedelta(minutes=5)

_SAME_GROUND = 0.5
"""Shared fraction of the smaller footprint from which products without datastrip are versions of one part."""


@dataclass
class _Part:
    """The latest product of a part of an acquisition.

    Attributes:
        product: its name.
        shape: its footprint, if its datastrip is unknown.
        item: its item, until it is released.
    """

    product: Product
    shape: BaseGeometry | None
    item: Item | None

    def contains(self, product: Product, shape: BaseGeometry | None) -> bool:
        """Whether a product of the same baseline is another version of this part."""
        if self.product.datastrip or product.datastrip:
            return self.product.datastrip == product.datastrip
        if self.shape is None or shape is None:
            return True
        return bool(self.shape.intersection(shape).area >= _SAME_GROUND * min(self.shape.area, shape.area))


@dataclass
class _Acquisition:
    """State of an acquisition.

    Attributes:
        baseline: newest processing baseline.
        time: sensing time of the first item.
        parts: its products of that baseline.
    """

    baseline: str
    time: dt.datetime
    parts: list[_Part] = field(default_factory=list)

    def add(self, product: Product, item: Item) -> bool:
        """Add a product; returns whether it is newer than the others."""
        if product.baseline < self.baseline:
            return False
        if product.baseline > self.baseline:
            self.baseline = product.baseline
            self.parts.clear()
        shape = None if product.datastrip else footprint(item.get("geometry"))
        versions = [part for part in self.parts if part.contains(product, shape)]
        if any(product.made <= part.product.made for part in versions):
            return False
        self.parts = [part for part in self.parts if part not in versions]
        self.parts.append(_Part(product, shape, item))
        return True

    def release(self) -> list[Item]:
        """The items that were not released yet."""
        items = [part.item for part in self.parts if part.item is not None]
        for part in self.parts:
            part.item = None
        return items


def within_covers(
    items: Iterable[Item], covers: Sequence[tuple[str, float]], unknown: Counter[str] | None = None
) -> Iterator[Item]:
    """The items whose cloud and snow cover do not exceed the limits.

    Args:
        items: STAC items.
        covers: properties with a cover, and their limits in percent.
        unknown: counts, by property, items that are left out only because they do not contain it.
    """
    for item in items:
        values = {name: item["properties"].get(name) for name, _ in covers}
        missing = [
            name for name, value in values.items() if not isinstance(value, int | float) or not math.isfinite(value)
        ]
        if any(values[name] > limit for name, limit in covers if name not in missing):
            continue
        if not missing:
            yield item
        elif unknown is not None:
            unknown[missing[0]] += 1


def newest(items: Iterable[Item], *, hold: bool = True) -> Iterator[Item]:
    """The newest processing baseline of each acquisition, and of it the latest product of each datastrip.

    Of products without datastrip, those that share half of the smaller footprint are versions of one part of the
    acquisition; others complete each other.

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
            yield from held.pop(key).release()
        acquisition = known.setdefault(product.acquisition, _Acquisition("", time))
        was_released = acquisition.baseline != "" and all(part.item is None for part in acquisition.parts)
        if not acquisition.add(product, item):
            continue
        if not hold:
            yield from acquisition.release()
            continue
        if was_released:
            logger.warning("%s came after an older processing of the same acquisition; both are returned", item["id"])
        held[product.acquisition] = acquisition
    for acquisition in held.values():
        yield from acquisition.release()


def sensing_time(item: Mapping[str, Any]) -> dt.datetime:
    """Sensing time of a STAC item, UTC."""
    properties = item["properties"]
    return str_to_datetime(properties.get("datetime") or properties["start_datetime"]).astimezone(dt.UTC)
