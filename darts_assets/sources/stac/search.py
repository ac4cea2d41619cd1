"""Finding scenes in STAC APIs: page by page, nothing twice, nothing that was not asked for."""

import datetime as dt
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from darts_assets.errors import SettingsError, SourceUnavailableError
from darts_assets.remote.rate_limited_api import GentleService
from darts_assets.sources.stac.acquisitions import newest
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
        url: another landing page than the service's own.
        pause: other seconds between requests than the service's own.
        page: other items per page than the service's own.
        backoff: seconds before a failed request is repeated, at least; twice as long before each further repetition.
    """

    def __init__(
        self,
        service: StacService,
        *,
        url: str | None = None,
        pause: float | None = None,
        page: int | None = None,
        backoff: float = 1.0,
    ) -> None:
        self.service = replace(
            service,
            url=url or service.url,
            pause=service.pause if pause is None else pause,
            page=page or service.page,
        )
        self._api = GentleService(str(self.service), self.service.url, pause=self.service.pause, backoff=backoff)

    @property
    def requests(self) -> int:
        """Requests that were sent so far, repetitions included."""
        return self._api.requests

    def search(self, selection: Selection, progress: Progress | None = None) -> Iterator[dict[str, Any]]:
        """The STAC items of a selection, as they come: one page is held at a time, and five minutes of sensing.

        Of tiles and areas, only the newest processing baseline of each acquisition is given, the latest acquisition
        first; with `published_since`, what was published first comes first, so that the caller may stop anywhere.

        Raises:
            UnknownScenesError: after all items were given: naming the ids that the service does not know.
            SettingsError: if the filter is not for this service, if the service refuses us, or has no such collection.
            SceneError: if the service refuses the request itself.
            SourceUnavailableError: if the service does not answer after bounded retries.
        """
        query = Query(self.service, selection, dt.datetime.now(dt.UTC).date())
        if selection.scene_ids:
            return self._named(query, progress)
        return newest(self._matching(query, progress), hold=not query.is_feed)

    def _named(self, query: Query, progress: Progress | None) -> Iterator[dict[str, Any]]:
        missing = dict.fromkeys(query.selection.scene_ids)
        for item in self._matching(query, progress):
            missing.pop(item["id"], None)
            yield item
        if missing:
            raise UnknownScenesError(list(missing), str(self.service))

    def _matching(self, query: Query, progress: Progress | None) -> Iterator[dict[str, Any]]:
        """Each item that is as was asked, once."""
        seen: set[str] = set()
        wrong: dict[str, str] = {}
        bodies = list(query.bodies())
        for body in bodies:
            for page in self._pages(body):
                items = [item for item in page.pop("features") if item["id"] not in seen]
                seen.update(item["id"] for item in items)
                if progress is not None:
                    progress(len(seen), _matched(page) if len(bodies) == 1 else None)
                for item in items:
                    reason = query.mismatch(item)
                    if reason is not None:
                        wrong[item["id"]] = reason
                    elif query.is_meant(item):
                        yield item
                items.clear()  # a page of CDSE takes 200 MB: not two of them at a time
        if wrong:
            example, reason = next(iter(wrong.items()))
            logger.warning(
                "%s: %d of %d items are not as was asked and are left out, such as %s: %s",
                self.service, len(wrong), len(seen), example, reason,
            )  # fmt: skip
        if not seen:
            # In a collection that does not exist, nothing is found either.
            self._api.ask("GET", f"{self._api.url}/collections/{quote(self.service.collection)}")

    def _pages(self, body: dict[str, Any]) -> Iterator[Page]:
        method, url, asked = "POST", f"{self._api.url}/search", body
        done = set()
        while True:
            page = self._api.ask(method, url, asked if method == "POST" else None)
            if not _has_items(page):
                raise SettingsError(f"{self.service}: the answer of {url} has no STAC items; it is not a STAC API")
            yield page
            done.add(json.dumps([method, url, asked], sort_keys=True))
            link = next((link for link in page.get("links") or () if link.get("rel") == "next"), None)
            if link is None:
                return
            method, url = link.get("method", "GET").upper(), link["href"]
            asked = {**(asked if link.get("merge") else {}), **(link.get("body") or {})}
            if json.dumps([method, url, asked], sort_keys=True) in done:
                raise SourceUnavailableError(f"{self.service}: the link to the next page leads to one that was read")


def _has_items(page: Page) -> bool:
    items = page.get("features")
    return isinstance(items, list) and all(
        isinstance(item, dict) and isinstance(item.get("id"), str) and isinstance(item.get("properties"), dict)
        for item in items
    )


def _matched(page: Page) -> int | None:
    """How many items match, where the service tells: as of STAC API 1.0, or before."""
    matched = page.get("numberMatched", (page.get("context") or {}).get("matched"))
    return matched if isinstance(matched, int) else None
