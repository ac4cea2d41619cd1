"""Planted slumps come out as one site each, with what was seen of it and how often."""

import itertools
import math

import numpy as np
import pytest
import shapely
from pyproj import Transformer
from shapely.affinity import translate

from darts_assets.errors import SettingsError
from darts_assets.geo.geodesic import geodesic_area
from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.table_schemas import (
    AREA_COLUMNS,
    DESCRIPTIONS,
    FOLLOWED_COLUMNS,
    SITE_COLUMNS,
    SLUMP_COLUMNS,
)
from darts_assets.review.review_columns import REVIEW_COLUMNS
from tests.inventory.planted import Planted, assert_same, built, square

CUT = True


def test_slumps_seen_in_k_of_n_scenes_are_sites_with_k_of_n_in_any_order() -> None:
    near, far = square(0, 0), square(1000, 0, 200)
    scenes = [
        Planted(180, [near, far]),
        Planted(185, [translate(near, 10, 0), far]),  # misregistered by a pixel
        Planted(190, [near]),  # sees the far one, finds nothing
        Planted(195, [], square(-200, -200, 700)),  # does not cover the far one
        Planted(200, [], None),  # all clouds
    ]
    inventory = built(scenes)
    west, east = inventory.sites.sort_values("lon").itertuples()
    assert (west.seen, west.observable, west.days_seen) == (3, 4, 3)
    assert (east.seen, east.observable) == (2, 3)
    assert east.area_ha == pytest.approx(4, rel=1e-3)
    assert west.area_ha == pytest.approx(1, rel=2e-3)  # two of three scenes agree on where it is
    assert (west.first_date, west.last_date) == (scenes[0].time, scenes[2].time)
    assert east.scenes.split(",") == [scenes[0].id, scenes[1].id]
    assert east.scenes_without.split(",") == [scenes[2].id]
    for order in list(itertools.permutations(scenes))[::17]:
        assert_same(built(list(order)), inventory)


def test_what_a_table_says_is_documented_and_typed_also_where_nothing_was_found() -> None:
    nothing = built([Planted(180, []), Planted(190, [], None)])
    assert list(nothing.scenes["scene_id"]) == sorted(nothing.scenes["scene_id"])
    assert len(nothing.scenes) == 2
    for sites in (nothing.sites, built([]).sites, built([Planted(180, [square(0, 0)])]).sites):
        assert list(sites.columns) == [*SITE_COLUMNS, "geometry"]
        assert sites.dtypes.astype(str).to_dict() == {**SITE_COLUMNS, "geometry": "geometry"}
        assert sites.crs.to_epsg() == 6931
    assert DESCRIPTIONS.keys() == {*SITE_COLUMNS, *FOLLOWED_COLUMNS, *AREA_COLUMNS, *SLUMP_COLUMNS, *REVIEW_COLUMNS}


def test_neighbours_that_a_pixel_lets_overlap_stay_apart_and_parts_of_one_slump_come_together() -> None:
    neighbours = [Planted(180, [square(0, 0)]), Planted(190, [square(90, 0)])]
    assert list(built(neighbours).sites["seen"]) == [1, 1]
    assert list(built(neighbours, min_overlap=0.05).sites["seen"]) == [2]
    parts = [Planted(180, [square(0, 0, 60), square(0, 140, 60)]), Planted(190, [square(0, 0, 200)])]
    assert list(built(parts).sites["seen"]) == [2]


def test_a_slump_cut_by_the_border_of_a_scene_is_one_site_with_what_the_neighbour_sees() -> None:
    whole = shapely.box(*square(0, 0).bounds[:2], *square(200, 0).bounds[2:])  # 300 m wide
    west, east = square(-5000, -5000, 5120), square(120, -5000, 10_000)
    left, right = whole & west, whole & east
    # The scenes share no pixel: the parts only touch.
    scenes = [Planted(180, [(left, 0.9, CUT)], west), Planted(190, [(right, 0.6, CUT)], east)]
    (site,) = built(scenes).sites.itertuples()
    assert (site.seen, site.observable, site.seen_whole) == (2, 2, False)
    assert site.area_ha == pytest.approx(3, rel=2e-3)
    assert site.mean_probability == pytest.approx((0.9 * 1.2 + 0.6 * 1.8) / 3, rel=1e-3)
    # A third sees all of it: where only one other looks, one of two is half.
    (site,) = built([*scenes, Planted(200, [whole])]).sites.itertuples()
    assert (site.seen, site.seen_whole) == (3, True)
    assert site.area_ha == pytest.approx(3, rel=2e-3)
    # Parts that no border cuts are two.
    apart = [Planted(180, [left], west), Planted(190, [right], east)]
    assert len(built(apart).sites) == 2


def test_the_outline_is_where_half_of_those_agree_who_look_there() -> None:
    scenes = [Planted(180 + day, [square(20 * day, 0)]) for day in range(3)]
    (site,) = built(scenes).sites.itertuples()
    # 0-20 one scene, 20-40 two, 40-100 three, 100-120 two, 120-140 one.
    assert site.area_ha == pytest.approx(1.0, rel=2e-3)
    (everything,) = built(scenes, outline="union").sites.itertuples()
    assert everything.area_ha == pytest.approx(1.4, rel=2e-3)
    # Clouds hide the eastern part from two scenes; the third decides there alone.
    clear = square(-5000, -5000, 5060)
    hidden = [Planted(180 + day, [(square(0, 0) & clear, 0.8, CUT)], clear) for day in range(2)]
    (site,) = built([*hidden, Planted(190, [square(0, 0)])]).sites.itertuples()
    assert site.area_ha == pytest.approx(1.0, rel=2e-3)


def test_observing_is_covering_enough_of_the_outline() -> None:
    seen = Planted(180, [square(0, 0)])
    most, little = (Planted(190 + width, [], square(-900 + width, -900, 1000)) for width in (-30, -70))
    assert list(built([seen, most]).sites["observable"]) == [2]
    assert list(built([seen, little]).sites["observable"]) == [1]
    assert list(built([seen, little], min_coverage=0.2).sites["observable"]) == [2]


def test_sentinel_2_and_planet_in_two_zones_see_the_same_slump() -> None:
    slump = square(0, 0)
    other = Transformer.from_crs(32608, 32607, always_xy=True)
    moved = shapely.transform(slump.segmentize(3), lambda xy: [*zip(*other.transform(*xy.T), strict=True)])
    planet = Planted(190, [(moved, 0.5, False)], moved.buffer(500), 32607, "planet")
    sentinel2 = Planted(180, [(slump, 0.9, False)])
    (site,) = built([planet, sentinel2]).sites.itertuples()
    assert (site.seen, site.observable, site.families) == (2, 2, "planet,sentinel2")
    assert site.mean_probability == pytest.approx(0.7, abs=1e-3)
    assert site.area_ha == pytest.approx(1, rel=5e-3)
    assert site.site_id == "rts-2023-68.5129N-134.9988W"


@pytest.mark.parametrize(("east", "epsg"), [(0, 32608), (150_000, 32608), (-200_000, 32642)])
def test_areas_are_those_on_the_ellipsoid(east: float, epsg: int) -> None:
    place = square(east, 0, 1000)
    inventory = built([Planted(180, [place], square(east - 500, -500, 2000), epsg=epsg)])
    (outline,) = geodesic_area(np.array([place]), epsg)
    (site,) = inventory.sites.itertuples()
    assert site.area_ha == pytest.approx(outline / 1e4, rel=3e-5)  # corners are rounded to centimetres
    assert inventory.detections["area_m2"].tolist() == pytest.approx([outline], rel=3e-5)
    assert abs(outline / place.area - 1) > 1.5e-4, "UTM is not equal-area"


def test_across_the_antimeridian_there_is_one_site() -> None:
    def east_of_180(metres: float, epsg: int) -> shapely.Polygon:
        x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(180, 68.5)
        return shapely.box(x + metres, y, x + metres + 100, y + 100)

    scenes = [
        Planted(180 + number, [shape := east_of_180(-50, epsg)], shape.buffer(3000), epsg)
        for number, epsg in enumerate((32601, 32660))
    ]
    (site,) = built(scenes).sites.itertuples()
    assert (site.seen, site.observable) == (2, 2)
    assert site.area_ha == pytest.approx(1, rel=0.1)  # the grids of the zones are turned against each other
    assert abs(site.lon) == pytest.approx(180, abs=1e-3)
    assert site.site_id.startswith("rts-2023-68.50")


def test_two_images_of_one_day_are_two_scenes_on_one_day() -> None:
    morning, evening = Planted(180, [square(0, 0)]), Planted(180, [square(0, 0)], family="planet")
    (site,) = built([morning, evening]).sites.itertuples()
    assert (site.seen, site.days_seen, site.days_observable) == (2, 1, 1)


@pytest.mark.parametrize("wrong", [{"min_overlap": 0}, {"min_coverage": 1.5}, {"tolerance": -1}])
def test_wrong_parameters_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        InventoryParameters(**wrong)


def everywhere_but(*shapes: shapely.Geometry) -> shapely.Geometry:
    return square(-5000, -5000, 10_000) - shapely.union_all(list(shapes))


def test_clouds_are_not_observation() -> None:
    slump = square(0, 0)
    clear = Planted(180, [slump], clouds=everywhere_but(square(-500, -500, 1500)))
    clouded = [Planted(181 + day, [], clouds=square(-5000, -5000, 10_000)) for day in range(3)]
    (site,) = built([clear, *clouded]).sites.itertuples()
    assert (site.seen, site.observable, site.days_observable, site.scenes_without) == (1, 1, 1, "")
    partly = Planted(190, [], clouds=square(-260, -100, 300))  # 60 % of the outline is clear
    mostly = Planted(191, [], clouds=square(-240, -100, 300))  # 60 % is clouded
    (site,) = built([clear, *clouded, partly, mostly]).sites.itertuples()
    assert (site.observable, site.scenes_without) == (2, partly.id)
    (site,) = built([clear, *clouded, partly, mostly], min_coverage=0.2).sites.itertuples()
    assert site.observable == 3


def test_detections_in_clouds_neither_make_a_site_nor_are_counted() -> None:
    slump, false = square(0, 0), square(3000, 0)
    clear = [Planted(180 + day, [slump], clouds=square(-4000, -4000, 100)) for day in range(2)]
    clouds = shapely.union_all([square(-20, -20, 100), false.buffer(500)])  # 64 % of the slump
    inventory = built([*clear, Planted(190, [slump, false], clouds=clouds)])
    (site,) = inventory.sites.itertuples()
    assert (site.seen, site.observable) == (2, 2)
    assert inventory.scenes["clouded_detections"].tolist() == [0, 0, 2]
    assert len(inventory.detections) == 2
    # Where the slump is clear enough, it counts.
    (site,) = built([*clear, Planted(190, [slump, false], clouds=clouds)], min_coverage=0.3).sites.itertuples()
    assert (site.seen, site.observable) == (3, 3)


def test_a_site_on_the_border_of_blocks_is_observed_whole() -> None:
    scenes = [Planted(180 + day, [square(120 - 50, 120 - 50)], clouds=square(-4000, -4000, 100)) for day in range(2)]
    scenes.append(Planted(190, [], clouds=square(-4000, -4000, 100)))
    (site,) = built(scenes).sites.itertuples()  # blocks meet in its middle
    assert (site.seen, site.observable, round(site.area_ha, 2)) == (2, 3, 1.0)


def test_one_bad_scene_does_not_merge_slumps() -> None:
    row = [square(200 * number, 0) for number in range(5)]
    scenes = [Planted(180 + day, list(row)) for day in range(6)]
    strip = Planted(190, [(shapely.box(*row[0].bounds[:2], *row[-1].bounds[2:]), 0.5, False)])
    good = built(scenes).sites
    sites = built([*scenes, strip]).sites
    assert sites["site_id"].tolist() == good["site_id"].tolist()
    assert (good["seen"].tolist(), good["observable"].tolist()) == ([6] * 5, [6] * 5)
    assert (sites["seen"].tolist(), sites["observable"].tolist()) == ([7] * 5, [7] * 5)
    assert (sites["scenes"].str.split(",").str[-1] == strip.id).all()
    assert sites["area_ha"].round(2).tolist() == [1.0] * 5
    assert sites["mean_probability"].tolist() == pytest.approx([0.8] * 5)
    assert built([*scenes, strip], outline="union").sites["area_ha"].round(2).tolist() == [1.0] * 5
    # A scene that detects nothing, one of fragments, and one that is shifted.
    fragments = [square(200 * number + 40 * part, 0, 20) for number in range(5) for part in range(3)]
    for bad in ([], fragments, [translate(each, 60, 0) for each in row]):
        again = built([*scenes, Planted(190, bad)]).sites
        assert again["site_id"].tolist() == good["site_id"].tolist()
        assert again["observable"].tolist() == [7] * 5
    # Two strips and two scenes that separate: half of four merges.
    half = [*scenes[:2], strip, Planted(191, strip.detections)]
    assert built(half).sites["seen"].tolist() == [4]
    assert len(built(half, min_support=0.6).sites) == 5


@pytest.mark.parametrize("outline", ["majority", "union"])
def test_areas_by_agreement(outline: str) -> None:
    # Scenes per 10 m along x: 2 to 20 m, 3 to 50 m, 4 to 100 m, 2 to 120 m, 1 to 150 m.
    scenes = [Planted(180 + 10 * number, [square(x, 0)]) for number, x in enumerate((0, 0, 20, 50))]
    (site,) = built(scenes, outline=outline).sites.itertuples()
    areas = (site.area_25_ha, site.area_50_ha, site.area_75_ha)
    assert areas == pytest.approx((1.5, 1.2, 0.8), rel=2e-3)
    assert site.area_ha == pytest.approx(1.2 if outline == "majority" else 1.5, rel=2e-3)


def test_a_scene_that_does_not_observe_a_spot_does_not_disagree_about_it() -> None:
    left = Planted(180, [square(0, 0, 100), (square(0, 300), 0.8, False)], square(-500, -500, 550))
    scenes = [left, Planted(190, [square(0, 0)]), Planted(200, [square(0, 0)])]
    site = built(scenes).sites.sort_values("lat").iloc[0]
    assert site["area_75_ha"] == pytest.approx(1.0, rel=2e-3)


def test_days_that_show_a_site_whole_give_its_mean_area() -> None:
    wide = shapely.union(square(0, 0), square(20, 0))
    scenes = [
        Planted(180, [square(0, 0)]),
        Planted(180, [wide], family="planet"),  # the same day: 1.1 together
        Planted(190, [shapely.union(square(0, 0), square(30, 0))]),
        Planted(200, [(square(0, 0, 80), 0.8, True)]),  # cut by the border
        Planted(210, [square(0, 0, 90)], clouds=square(-20, 90, 200)),  # part of the outline is clouded
    ]
    (site,) = built(scenes).sites.itertuples()
    assert (site.seen, site.area_days) == (5, 2)
    assert site.area_mean_ha == pytest.approx((1.1 + 1.3) / 2, rel=2e-3)
    assert site.area_sd_ha == pytest.approx(math.sqrt(2 * 0.1**2), rel=2e-3)
    assert site.area_low_ha < site.area_mean_ha < site.area_high_ha


def test_sensors_that_are_apart_have_sites_of_their_own() -> None:
    here, beside = square(0, 0), square(120, 0)
    strip = square(0, 0, 100).union(square(120, 0, 100)).envelope
    scenes = [
        Planted(180, [here, beside]),
        Planted(185, [translate(here, 10, 0), beside]),
        Planted(190, [strip], family="planet"),
        Planted(195, [strip], family="planet"),
        Planted(200, [], family="planet"),  # looks there in vain
    ]
    together = built(scenes).sites
    assert set(together["families"]) == {"planet,sentinel2"}
    sites = built(scenes, sensors="apart").sites
    assert sites["site_id"].is_unique
    by_family = dict(list(sites.groupby("families")))
    assert {name: len(table) for name, table in by_family.items()} == {"sentinel2": 2, "planet": 1}
    assert by_family["sentinel2"][["seen", "observable"]].to_numpy().tolist() == [[2, 2], [2, 2]]
    (wide,) = by_family["planet"].itertuples()
    assert (wide.seen, wide.observable, wide.scenes_without) == (2, 3, scenes[-1].id)
    for family, table in by_family.items():
        alone = built([scene for scene in scenes if scene.family == family]).sites
        columns = [name for name in table.columns if name != "site_id"]
        key = ["lon", "lat"]
        left, right = (each.sort_values(key, ignore_index=True)[columns] for each in (table, alone))
        assert left.drop(columns="geometry").equals(right.drop(columns="geometry"))
        assert shapely.equals(left.geometry.to_numpy(), right.geometry.to_numpy()).all()
