"""However scenes come, go and change, the inventory is what all of them at once would have given, to the last bit."""

import random
from dataclasses import replace

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import translate

from darts_assets.inventory.site_parameters import InventoryParameters
from darts_assets.inventory.yearly_inventory import empty_inventory, update
from tests.inventory.planted import Planted, Tables, assert_same, brought_to, built, square

STEP = 10
WHERE = st.integers(0, 40)
DAYS = st.integers(150, 160)


@st.composite
def shapes(draw: st.DrawFn) -> shapely.Polygon:
    """A rectangle or a rectangle with a corner cut off, on a grid of pixels."""
    x, y = STEP * draw(WHERE), STEP * draw(WHERE)
    width, height = (STEP * draw(st.integers(2, 15)) for _ in range(2))
    whole = shapely.box(*square(x, y, 1).bounds[:2], *square(x + width, y + height, 0).bounds[2:])
    if not draw(st.booleans()):
        return whole
    west, south = whole.bounds[:2]
    return whole - shapely.box(west, south, west + STEP, south + STEP)


@st.composite
def scenes(draw: st.DrawFn) -> Planted:
    zone, east = draw(st.sampled_from([(32608, 0), (32608, 0), (32607, 245_370)]))  # the same ground, about
    detections = [
        (translate(shape, east), draw(st.integers(50, 100)) / 100, draw(st.booleans()))
        for shape in draw(st.lists(shapes(), max_size=4))
    ]
    area = draw(st.sampled_from([None, square(-200, -200, 1000), square(-200, -200, 450), square(100, 0, 300)]))
    family = draw(st.sampled_from(["sentinel2", "sentinel2", "planet"]))
    if area is None:
        return Planted(draw(DAYS), [], None, zone, family)
    extent = shapely.union_all([translate(area, east), *(shape for shape, _, _ in detections)])
    return Planted(draw(DAYS), detections, extent, zone, family)


several = st.lists(scenes(), min_size=1, max_size=5, unique_by=lambda scene: scene.id)


@pytest.mark.slow
@pytest.mark.parametrize("sensors", ["together", "apart"])
@given(several, st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_any_order_and_any_steps_give_the_same(sensors: str, planted: list[Planted], chance: random.Random) -> None:
    fresh = built(planted, sensors=sensors)
    shuffled = chance.sample(planted, len(planted))
    assert_same(built(shuffled, sensors=sensors), fresh)
    inventory = empty_inventory(2023, InventoryParameters(sensors=sensors))
    for count in range(1, len(planted) + 1):
        inventory = brought_to(inventory, shuffled[:count])
    assert_same(inventory, fresh)


@pytest.mark.slow
@given(several, several, st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_scenes_may_go_and_change(planted: list[Planted], others: list[Planted], chance: random.Random) -> None:
    inventory = built(planted)
    # Some stay, some go, some are there with other polygons, some are new.
    stay = [scene for scene in planted if chance.random() < 0.5]
    ids = {scene.id for scene in stay}
    target = stay + [replace(scene, version="2") for scene in others if scene.id not in ids]
    assert_same(brought_to(inventory, target), built(target))


def test_a_scene_updates_only_what_it_touches() -> None:
    here = [Planted(180, [square(0, 0)]), Planted(190, [square(0, 0)])]
    there = Planted(181, [square(60_000, 0), square(61_000, 0)], square(58_000, -2000, 6000), family="planet")
    before = built([*here, there])
    tables = Tables([*here, there, late := Planted(200, [square(10, 0)])])
    after, changes = update(before, [scene.record for scene in (*here, there, late)], tables)
    assert tables.read == [late.id]  # of the others, not even the file was opened
    assert (changes.added, changes.worked_out, changes.kept) == ([late.id], 1, 2)
    assert sorted(after.sites["seen"]) == [1, 1, 3]
    assert_same(after, built([*here, there, late]))

    unchanged, changes = update(after, [scene.record for scene in (*here, there, late)], Tables([]))
    assert (changes.added, changes.worked_out, changes.kept) == ([], 0, 3)
    assert_same(unchanged, after)

    without, changes = update(after, [scene.record for scene in here], Tables(here))
    assert (changes.removed, changes.worked_out, changes.kept) == (sorted([there.id, late.id]), 1, 0)
    assert_same(without, built(here))


def test_a_scene_that_joined_two_sites_leaves_them_apart_again() -> None:
    apart = [Planted(180, [square(0, 0), square(200, 0)])]
    bridge = Planted(185, [shapely.box(*square(0, 0).bounds[:2], *square(200, 0).bounds[2:])])
    two = built(apart)
    one = brought_to(two, [*apart, bridge])
    assert (len(two.sites), len(one.sites)) == (2, 1)
    # The site of the detection that was first keeps its name.
    assert one.sites["site_id"][0] in set(two.sites["site_id"])
    assert_same(brought_to(one, apart), two)


def test_a_change_of_one_site_reaches_all_that_a_scene_lies_across() -> None:
    """Of five sites in a row, a new scene touches the last one; its cluster is computed again, and nothing else."""
    row = [square(200 * number, 0) for number in range(5)]
    scenes = [Planted(180 + day, [*row, square(50_000, 0)]) for day in range(3)]
    strip = Planted(190, [shapely.box(*row[0].bounds[:2], *row[-1].bounds[2:])])
    before = built([*scenes, strip])
    assert sorted(before.detections.groupby("cluster")["site_id"].nunique()) == [1, 5]
    late = Planted(200, [row[-1]], square(700, -100, 1000))
    after, changes = update(before, [scene.record for scene in (*scenes, strip, late)], Tables([*scenes, strip, late]))
    assert (changes.worked_out, changes.kept) == (5, 1)
    assert_same(after, built([*scenes, strip, late]))
    assert_same(brought_to(after, [*scenes, strip]), before)
