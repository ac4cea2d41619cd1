"""Raw scenes in the store."""

import datetime as dt
import json
from pathlib import Path

from darts_assets.orchestration.core.resources import SourceAccess, Store
from darts_assets.orchestration.core.scene_store import RawScenes
from darts_assets.scene import Scene


def test_bands_are_kept_for_the_same_item_also_if_it_has_nan(tmp_path: Path) -> None:
    store = Store(url=str(tmp_path))
    raw = RawScenes(store=store, access=SourceAccess())

    def scene(text: str) -> Scene:
        return Scene("a", "cdse", dt.datetime(2023, 7, 1, tzinfo=dt.UTC), 32608, {}, item=json.loads(text))

    item = '{"id": "a", "properties": {"view:sun_azimuth": NaN}}'
    place = raw.place(scene(item))
    with place.new_version() as version:
        place.publish(version, {"red": version.id}, {"item": scene(item).item})
    assert raw.kept(scene(item)) == {"red": version.id}
    assert raw.kept(scene(item.replace("NaN", "170.5"))) == {}
