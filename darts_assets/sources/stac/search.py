"""Searches for scenes in STAC APIs."""

import datetime as dt
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from darts_assets.errors import SettingsError, SourceUnavailableError
from darts_assets.remote.stac_client import RateLimitedStacIO
from darts_assets.sources.stac.acquisitions import newest, within_covers
from darts_assets.sources.stac.queries import Query
from darts_assets.sources.stac.scene_ids import UnknownScenesError
from darts_assets.sources.stac.scene_selection import Progress, Selection
from darts_assets.sources.stac.services import StacService

logger = logging.getLogger(__name__)

Page = dict[str, Any]


class StacCatalog:
    """A collection of a STAC API as a `SceneCatalog`.

    Args:
        service: one of `services.SERVICES`.
        url: landing page, if not the service's.
        pause: seconds between requests, if not the service's.
        page: items per page, if not the service's.
    """

    def __init__(
        self, service: StacService, *, url: str | None = None, pause: float | None = None, page: int | None = None
    ) -> None:
        self.service = replace(
            service,
            url=(url or service.url).rstrip("/"),
            pause=service.pause if pause is None else pause,
            page=page or service.page,
        )
        self._api = RateLimitedStacIO(str(self.service), pause=self.service.pause)

    @property
    def requests(self) -> int:
        """Number of requests sent, repetitions included."""
        return self._api.requests

    def search(
        self, selection: Selection, progress: Progress | None = None, unknown: Counter[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """The STAC items of a selection, page by page; one page and five minutes of sensing are held in memory.

        For tiles and areas, only the newest processing baseline of each acquisition is considered, and the limits of
        cloud and snow cover apply to it; the latest acquisition comes first. With `published_since`, items are sorted
        by publication, so that the caller may stop anywhere.

        Raises:
            UnknownScenesError: after the last item, if the service does not have all ids.
            SettingsError: if the filter does not apply to this service, or the service refuses the client or has no
                such collection.
            SceneError: if the service refuses the request.
            SourceUnavailableError: if the service does not answer after bounded retries, or returns fewer items than it
                reports to match.
        """
        query = Query(self.service, selection, dt.datetime.now(dt.UTC).date())
        if selection.scene_ids:
            return self._by_id(query, progress)
        latest = newest(self._matching(query, progress), hold=not query.is_feed)
        return within_covers((item for item in latest if query.is_selected(item)), query.covers, unknown)

    def _by_id(self, query: Query, progress: Progress | None) -> Iterator[dict[str, Any]]:
        missing = dict.fromkeys(query.selection.scene_ids)
        for item in self._matching(query, progress):
            missing.pop(item["id"], None)
            yield item
        if missing:
            raise UnknownScenesError(list(missing), str(self.service))

    def _matching(self, query: Query, progress: Progress | None) -> Iterator[dict[str, Any]]:
        """Each item that matches the request, once."""
        seen: set[str] = set()
        mismatches: dict[str, str] = {}
        bodies = list(query.bodies())
        for body in bodies:
            received: set[str] = set()
            matched = None
            for page in self._api.get_pages(f"{self.service.url}/search", "POST", body):
                if not _has_items(page):
                    raise SettingsError(f"{self.service}: the response has no STAC items; is this a STAC API?")
                received.update(item["id"] for item in page["features"])
                items = [item for item in page.pop("features") if item["id"] not in seen]
                seen.update(item["id"] for item in items)
                matched = _matched(page)
                if progress is not None:
                    progress(len(seen), matched if len(bodies) == 1 else None)
                for item in items:
                    reason = query.mismatch(item)
                    if reason is not None:
                        mismatches[item["id"]] = reason
                    else:
                        yield item
                items.clear()  # a page of CDSE takes 200 MB: not two of them at a time
            if matched is not None and len(received) < matched:
                raise SourceUnavailableError(
                    f"{self.service}: {matched} items match, but the last page ends after {len(received)} of them and "
                    "has no link to the next page; search again later"
                )
        if mismatches:
            example, reason = next(iter(mismatches.items()))
            logger.warning(
                "%s: %d of %d items do not match the request and are left out, such as %s: %s",
                self.service, len(mismatches), len(seen), example, reason,
            )  # fmt: skip
        if not seen:
            # A search of a missing collection succeeds without items, too.
            self._api.read_json(f"{self.service.url}/collections/{quote(self.service.collection)}")


def _has_items(page: Page) -> bool:
    items = page.get("features")
    return isinstance(items, list) and all(
        isinstance(item, dict) and isinstance(item.get("id"), str) and isinstance(item.get("properties"), dict)
        for item in items
    )


def _matched(page: Page) -> int | None:
    """The number of matching items if the service reports it, as in STAC API 1.0 or in earlier versions."""
    matched = page.get("numberMatched", (page.get("context") or {}).get("matched"))
    return matched if isinstance(matched, int) else None
