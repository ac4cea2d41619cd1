"""The options of `darts-assets map`."""

from pathlib import Path

import click
import pytest

from darts_assets.cli.map_commands import _choice, _family, _ids_of, _is_item, _Numbers, map_scenes
from darts_assets.orchestration.scene_discovery.planet_selection import PlanetChoice
from darts_assets.orchestration.scene_discovery.selection import SceneChoice
from darts_assets.sources import S3Options


def test_numbers_and_ranges() -> None:
    def numbers(text: str) -> list[int]:
        return _Numbers().convert(text, None, None)

    assert numbers("7,8") == [7, 8]
    assert numbers("2019-2021, 2023") == [2019, 2020, 2021, 2023]
    for wrong in ("July", "7-", "-8", "7,,8", "1-99999"):
        with pytest.raises(click.BadParameter, match="expected numbers or a range, such as 7,8 or 2019-2023"):
            numbers(wrong)


def test_all_fields_of_the_selections_are_options() -> None:
    options = {str(parameter.name) for parameter in map_scenes.params}
    fields = {*SceneChoice.model_fields, *PlanetChoice.model_fields}
    assert fields - options == {"scene_ids"}  # --scene


def test_options_become_the_selection_of_discover_scenes() -> None:
    choice = _choice(
        "sentinel2",
        [],
        is_complete=False,
        aoi="area.gpkg",
        tiles=None,
        years=[2023],
        max_cloud_cover=20.0,
        source="cdse",
    )
    assert isinstance(choice, SceneChoice)
    assert choice == SceneChoice(aoi="area.gpkg", years=[2023], max_cloud_cover=20.0, source="cdse")
    assert _choice("sentinel2", [], is_complete=False, tiles="08WNB, 08WMB") == SceneChoice(tiles=["08WNB", "08WMB"])
    assert _choice("sentinel2", ["a", "b"], is_complete=False) == SceneChoice(scene_ids=["a", "b"])
    planet = _choice("planet", [], is_complete=False, folders="/data/planet")
    assert planet == PlanetChoice(folders=["/data/planet"])
    assert _choice("planet", [], is_complete=False) == PlanetChoice()
    assert _choice("sentinel2", [], is_complete=True, aoi=None) is None


@pytest.mark.parametrize(
    ("family", "filters", "problem"),
    [
        ("sentinel2", {}, "no scenes are selected: set --aoi, --tiles, --scene or --ids-file"),
        ("sentinel2", {"folders": "a"}, "--folders: not for the family sentinel2"),
        ("planet", {"tiles": "08WMB", "max_cloud_cover": 1.0}, "--tiles, --max-cloud-cover: not for the family planet"),
        ("sentinel2", {"aoi": "a", "source": "usgs"}, "--source: Input should be 'auto', 'cdse'"),
    ],
)
def test_options_that_do_not_apply(family: str, filters: dict[str, object], problem: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        _choice(family, [], is_complete=False, **filters)

    assert problem in str(raised.value)


def test_files_of_ids(tmp_path: Path) -> None:
    file = tmp_path / "ids"
    for text in ('["a", "b"]', "a\nb # the second\n\n# none\n"):
        file.write_text(text)
        assert _ids_of(str(file)) == ["a", "b"]
    assert _ids_of(None) == []
    for text, problem in (("", "has no scene ids"), ("[1]", "has no scene ids"), ("[", "is not JSON")):
        file.write_text(text)
        with pytest.raises(click.UsageError, match=problem):
            _ids_of(str(file))
    with pytest.raises(click.UsageError, match="No such file"):
        _ids_of(str(tmp_path / "none"))


def test_scenes_are_ids_or_items(tmp_path: Path) -> None:
    assert _is_item("https://host/item")
    assert _is_item("item.json")
    assert _is_item(str(tmp_path))
    assert not _is_item("S2A_MSIL2A_20230715T200901_N0509_R128_T08WMB_20230716T012345")


def test_folders_are_planet_images_unless_they_have_safe_products(tmp_path: Path) -> None:
    folder, item, s3 = str(tmp_path / "images"), "https://host/item.json", S3Options()
    product, archive = str(tmp_path / "archive" / "a.SAFE"), "s3://bucket/a.SAFE.zip"
    for path in (folder, product):
        Path(path).mkdir(parents=True)
    Path(product, "MTD_MSIL2A.xml").touch()
    requests = ((), (item,), (folder,), (product, archive, str(tmp_path / "archive")))
    assert [_family(None, items, s3) for items in requests] == ["sentinel2", "sentinel2", "planet", "sentinel2"]
    assert _family("planet", (), s3) == "planet"
    for given, items in (("planet", (item,)), ("sentinel2", (folder,)), (None, (item, folder))):
        with pytest.raises(click.UsageError, match="several families: planet, sentinel2"):
            _family(given, items, s3)
