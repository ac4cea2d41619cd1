import numpy as np
import pytest
import torch

from darts_assets.bands import FEATURES, TCVIS, band
from darts_assets.errors import SettingsError
from darts_assets.features import terrain
from darts_assets.training.fit.augment import AUGMENTATIONS, Augmenter, generator, order

SIDE = 32
ASPECT, NDVI, RED = (FEATURES.index(name) for name in ("aspect", "ndvi", "red"))


def patch() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(3)
    labels = torch.from_numpy((random.random((SIDE, SIDE)) < 0.2).astype(np.uint8))
    inputs = torch.from_numpy(random.uniform(0.3, 0.6, (len(FEATURES), SIDE, SIDE)).astype(np.float32))
    inputs[NDVI] = 0.2 + 0.5 * labels
    inputs[:, 5:9, 7] = 0  # nothing there
    return inputs, labels


def changed(*chosen: str, seed: int = 0, terrain: str = "physical") -> tuple[torch.Tensor, torch.Tensor]:
    augmenter = Augmenter(chosen, FEATURES, terrain)  # type: ignore[arg-type]
    return augmenter(*patch(), generator(seed, 0, 0))


@pytest.mark.parametrize("seed", range(12))
def test_labels_go_where_the_ground_goes(seed: int) -> None:
    inputs, labels = changed("turn", "mirror", seed=seed)
    somewhere = inputs[NDVI] != 0
    torch.testing.assert_close(inputs[NDVI][somewhere], (0.2 + 0.5 * labels)[somewhere])
    assert int(labels.sum()) == int(patch()[1].sum())
    assert (inputs == 0).all(dim=0).sum() == 4


def test_all_eight_positions_occur() -> None:
    positions = {changed("turn", "mirror", seed=seed)[1].numpy().tobytes() for seed in range(60)}
    assert len(positions) == 8


@pytest.mark.parametrize("seed", range(10))
def test_aspect_is_that_of_the_changed_ground(seed: int) -> None:
    rng = np.random.default_rng(1)
    dem = np.cumsum(np.cumsum(rng.normal(0, 0.1, (SIDE + 2, SIDE + 2)), axis=0), axis=1).astype(np.float32)
    aspect = terrain.aspect(terrain.gradients(dem, 10)[0])
    augmenter = Augmenter(("turn", "mirror"), ("dem", "aspect"), "physical")
    inputs = torch.from_numpy(np.stack([band("dem").to_model(dem[1:-1, 1:-1] + 500), band("aspect").to_model(aspect)]))
    turned, _ = augmenter(inputs, torch.zeros((SIDE, SIDE)), generator(seed, 0, 0))
    heights = turned[0].numpy() * np.float32(3100)
    expected = terrain.aspect(terrain.gradients(heights, 10)[0])
    difference = (turned[1, 1:-1, 1:-1].numpy() * 360 - expected + 180) % 360 - 180
    assert np.median(np.abs(difference)) < 0.1
    assert np.quantile(np.abs(difference), 0.9) < 2


def test_a_mirror_keeps_the_offset_of_the_convention() -> None:
    """Aspect of DARTS is 94 degrees off: a slope that falls to the east says 184, and 4 in a mirror."""
    augmenter = Augmenter(("mirror",), ("aspect",), "darts-2025")
    east, west = torch.full((1, 4, 4), 184 / 360), torch.full((1, 4, 4), 4 / 360)
    labels = torch.zeros((4, 4))
    seeds = [seed for seed in range(10) if generator(seed, 0, 0).random() < 0.5]
    for seed in seeds:
        torch.testing.assert_close(augmenter(east, labels, generator(seed, 0, 0))[0], west)
    assert seeds


def test_flat_ground_keeps_what_the_convention_says_of_it() -> None:
    augmenter = Augmenter(("turn", "mirror"), ("slope", "aspect"), "darts-2025")
    inputs = torch.stack([torch.zeros((4, 4)), torch.full((4, 4), 93 / 360)])
    for seed in range(8):
        assert torch.equal(augmenter(inputs, torch.zeros((4, 4)), generator(seed, 0, 0))[0], inputs)


@pytest.mark.parametrize("name", ["brightness", "blur", "noise"])
def test_light_changes_optical_bands_only_and_nothing_stays_nothing(name: str) -> None:
    before, labels = patch()
    different = 0
    for seed in range(30):
        inputs, same = changed(name, seed=seed)
        assert torch.equal(same, labels)
        assert torch.equal(inputs[4:], before[4:])
        assert (inputs[:, 5:9, 7] == 0).all()
        assert (inputs[RED] - before[RED]).abs().max() < 0.2
        different += not torch.equal(inputs[:4], before[:4])
    assert different >= 1


def test_holes_take_whole_layers() -> None:
    tcvis = [FEATURES.index(name) for name in TCVIS]
    empty = [bool((changed("holes", seed=seed)[0][tcvis] == 0).all()) for seed in range(100)]
    assert 2 <= sum(empty) <= 25


def test_the_same_randomness_gives_the_same_patch() -> None:
    one, again, other = (changed(*AUGMENTATIONS, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert len({tuple(order(0, epoch, range(9))) for epoch in range(5)}) == 5
    assert tuple(order(0, 1, range(9))) == tuple(order(0, 1, range(9)))


def test_an_input_is_never_changed_in_place() -> None:
    inputs, labels = patch()
    kept = inputs.clone()
    for seed in range(10):
        Augmenter(AUGMENTATIONS, FEATURES, "physical")(inputs, labels, generator(seed, 0, 0))
    assert torch.equal(inputs, kept)


def test_unknown_changes_are_named() -> None:
    with pytest.raises(SettingsError, match="unknown augmentation shear; expected turn"):
        Augmenter(("shear",), FEATURES, "physical")
