"""Pairs of detections that are linked, and the sites that their clusters are divided into."""

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from darts_assets.inventory.links import Links, clusters_of, divide, find_links
from darts_assets.inventory.site_parameters import InventoryParameters


@pytest.mark.parametrize(
    ("cut", "clusters"),
    [((False, False), [0, 1]), ((True, False), [0, 0]), ((False, True), [0, 0]), ((True, True), [0, 0])],
)
def test_detections_that_touch_are_linked_if_either_is_cut(cut: tuple[bool, bool], clusters: list[int]) -> None:
    touching = np.array([shapely.box(0, 0, 100, 100), shapely.box(100, 0, 200, 100)], dtype=object)
    links = find_links(touching, np.array([0, 1]), np.array(cut), InventoryParameters())
    assert clusters_of(2, links).tolist() == clusters


def test_detections_of_one_scene_are_not_linked() -> None:
    touching = np.array([shapely.box(0, 0, 100, 100), shapely.box(100, 0, 200, 100)], dtype=object)
    links = find_links(touching, np.array([0, 0]), np.array([True, True]), InventoryParameters())
    assert clusters_of(2, links).tolist() == [0, 1]


def test_likeness_is_intersection_over_union() -> None:
    shapes = np.array([shapely.box(0, 0, 100, 100), shapely.box(50, 0, 150, 100)], dtype=object)
    links = find_links(shapes, np.array([0, 1]), np.array([False, False]), InventoryParameters())
    assert links.likeness.tolist() == [pytest.approx(1 / 3)]


def sites_of(
    detections: list[tuple[str, float, float]], looks: Mapping[str, tuple[float, float]] | None = None, **more: float
) -> tuple[list[int], dict[int, set[str]]]:
    """Sites of detections (scene, from, to) on a line, and scenes across them; `looks` are what scenes observe."""
    shapes = np.array([shapely.box(start, 0, stop, 10) for _, start, stop in detections], dtype=object)
    names = [scene for scene, _, _ in detections]
    numbers = np.unique(names, return_inverse=True)[1]
    links = find_links(shapes, numbers, np.zeros(len(shapes), bool), InventoryParameters())
    observed = {
        scene: {i for i, (_, start, stop) in enumerate(detections) if first <= start and stop <= last}
        for scene, (first, last) in (looks or {}).items()
    }
    division = divide(links, names, observed, more.get("min_support", 0.5))
    return division.sites, dict(division.across)


def test_one_scene_does_not_merge_what_two_separate() -> None:
    apart = [("a", 0, 40), ("a", 60, 100), ("b", 0, 40), ("b", 60, 100)]
    assert sites_of([*apart, ("c", 0, 100)]) == ([0, 1, 0, 1, 0], {1: {"c"}})
    assert sites_of([*apart, ("c", 0, 100), ("d", 0, 100)])[0] == [0, 0, 0, 0, 0, 0]  # two of four
    assert sites_of([*apart, ("c", 0, 100), ("d", 0, 100)], min_support=0.6)[0] == [0, 1, 0, 1, 0, 0]
    assert sites_of([*apart, ("c", 0, 100)], min_support=0.3)[0] == [0, 0, 0, 0, 0]


def test_nor_what_different_scenes_detect() -> None:
    assert sites_of([("a", 0, 40), ("b", 60, 100), ("c", 0, 100)])[0] == [0, 1, 0]
    ones = [(name, 0, 40) for name in "abc"] + [(name, 60, 100) for name in "def"]
    assert sites_of([*ones, ("g", 0, 100)]) == ([0, 0, 0, 1, 1, 1, 0], {1: {"g"}})


def test_one_scene_does_not_divide_what_others_detect_as_one() -> None:
    whole = [("a", 0, 100), ("b", 0, 100)]
    assert sites_of([*whole, ("c", 0, 30), ("c", 40, 60), ("c", 70, 100)])[0] == [0] * 5
    assert sites_of([whole[0], ("c", 0, 40), ("c", 60, 100)])[0] == [0] * 3  # of two, one is half


def test_only_scenes_that_look_at_both_vote() -> None:
    halves = [("a", 0, 40), ("b", 0, 40), ("c", 60, 100), ("d", 60, 100), ("e", 0, 100)]
    assert sites_of(halves)[0] == [0, 0, 1, 1, 0]
    west, east = (-500, 50), (50, 500)
    assert sites_of(halves, {"a": west, "b": west, "c": east, "d": east})[0] == [0] * 5


def test_a_cluster_of_thousands_is_divided_in_time() -> None:
    """A scene that is all detection, over 200 slumps of 10 scenes."""
    slumps, scenes = 200, 10
    slump, scene = np.divmod(np.arange(slumps * scenes), scenes)
    bad = slumps * scenes
    pairs = [(10 * s + i, 10 * s + j) for s in range(slumps) for j in range(scenes) for i in range(j)]
    one, other = np.array([*pairs, *((number, bad) for number in range(bad))]).T
    links = Links(one, other, np.where(other == bad, 0.01, 0.8))
    division = divide(links, [*map(str, scene), "bad"], {}, 0.5)
    assert division.sites[:bad] == slump.tolist()
    assert set(division.across) == set(range(1, slumps))


@st.composite
def one_bad_scene(draw: st.DrawFn) -> tuple[list[tuple[str, float, float]], list[tuple[str, float, float]]]:
    """Detections of scenes that agree on up to four slumps, and of one more scene."""
    places = range(draw(st.integers(2, 4)))
    good = []
    for scene in range(draw(st.integers(2, 6))):
        for place in places:
            if draw(st.booleans()):
                shift = draw(st.integers(-5, 5))
                good.append((f"{scene}", 100 * place + shift, 100 * place + 60 + shift))
    ends = sorted(draw(st.sets(st.integers(-2, 50), min_size=2, max_size=8)))
    return good, [("bad", 10 * start, 10 * stop) for start, stop in zip(ends[::2], ends[1::2], strict=False)]


@given(one_bad_scene())
@settings(max_examples=100, deadline=None)
def test_sites_are_stable_under_any_single_bad_scene(
    scenes: tuple[list[tuple[str, float, float]], list[tuple[str, float, float]]],
) -> None:
    good, bad = scenes
    slumps = [int((start + 10) // 100) for _, start, _ in good]
    for one, other in itertools.combinations(sorted(set(slumps)), 2):
        # Of two scenes, neither is the bad one.
        assume(len({scene for (scene, _, _), slump in zip(good, slumps, strict=True) if slump in (one, other)}) > 1)
    before, _ = sites_of(good)
    after, across = sites_of([*good, *bad])
    of_slump = dict(zip(slumps, before, strict=True))
    assert len(set(of_slump.values())) == len(of_slump)
    pairs = set(zip(before, after[: len(good)], strict=True))
    assert len(pairs) == len(set(before)) == len(set(after[: len(good)]))
    # The bad scene may have sites of its own.
    assert all(across.get(site, {"bad"}) == {"bad"} for site in after[: len(good)])
