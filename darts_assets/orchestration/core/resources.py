"""Resources: where things are and what is available, handed to assets. They open; the domain rooms do."""

import dagster as dg

from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place


class Store(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The root of everything that is written."""

    url: str
    endpoint: str | None = None
    region: str | None = None

    @property
    def root(self) -> StoreLocation:
        """The store's location."""
        return StoreLocation(self.url, self.endpoint, self.region)

    def place(self, *parts: str) -> Place:
        """The place of `parts` below the root."""
        return Place(self.root.child(*parts))
