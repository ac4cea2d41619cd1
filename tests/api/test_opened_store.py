"""A store as a table of scenes; `tests/e2e/test_python_api.py` and `test_open_with_anything.py` read a whole one."""

from dataclasses import replace
from pathlib import Path

import darts_assets
from darts_assets.stores import store_layout
from darts_assets.stores.location import StoreLocation
from darts_assets.stores.publish import Place


def test_scenes_have_the_steps_whose_values_are_there(tmp_path: Path) -> None:
    root = StoreLocation(str(tmp_path))
    for scene in ("a", "b"):
        place = Place(store_layout.step_folder(root, "sentinel2", "segmentation").child(scene))
        with place.new_version() as version:
            place.publish(version, {"probabilities": version.id}, {})
    mark = {"released": {"since": "2024-01-01T00:00:00+00:00", "again": "a command"}}
    place.amend(lambda manifest: replace(manifest, contents={}, metadata=mark))
    with Place(store_layout.raw_place(root, "cdse", "a").location).new_version():
        table = darts_assets.open_store(tmp_path).scenes()  # a raw scene that is being written
    assert table["scene_id"].tolist() == ["a"]
    assert table.loc[0, ["raw_scene", "segmentation", "products"]].tolist() == [False, True, False]
