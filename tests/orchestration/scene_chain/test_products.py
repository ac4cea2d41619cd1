"""The metadata of products on Dagster's pages."""

import dagster as dg
from PIL import Image

from darts_assets.orchestration.core.resources import Room, Store
from darts_assets.orchestration.scene_chain.products import THUMBNAIL, _picture

LOCATION = ("products", "sentinel2", "S2A_é", "latest")
PREVIEW = Image.new("RGB", (300, 300))


def test_without_a_web_server_pictures_are_embedded_and_files_are_paths(tmp_path) -> None:
    store = Store(url=str(tmp_path), rooms={"products": Room(url=str(tmp_path / "elsewhere"))})
    picture = _picture(store, LOCATION, [THUMBNAIL], PREVIEW)["Picture"].value
    assert picture.startswith("![](data:image/webp;base64,")
    path = f"{tmp_path}/elsewhere/sentinel2/S2A_é/latest/thumbnail.jpg"
    assert store.link(*LOCATION, THUMBNAIL) == dg.MetadataValue.path(path)


def test_with_a_web_server_the_picture_is_shown_at_once_and_files_are_links(tmp_path) -> None:
    store = Store(url=str(tmp_path), files_url="http://localhost:8642")
    url = "http://localhost:8642/products/sentinel2/S2A_%C3%A9/latest/thumbnail.jpg"
    assert store.link(*LOCATION, THUMBNAIL) == dg.MetadataValue.url(url)
    picture = _picture(store, LOCATION, [THUMBNAIL], PREVIEW)["Picture"]
    assert picture == dg.MetadataValue.md(f"![]({url})")
    assert len(picture.value) < 1000, "Dagster hides longer texts behind a click"
    without = _picture(store, LOCATION, ["metadata.json"], PREVIEW)["Picture"].value
    assert without.startswith("![](data:"), "of a scene without the product thumbnail"
