from __future__ import annotations

import numpy as np
import pytest
import torch

from zenopt.train.augment import BatchRandom, cutout, erase, flip, lighting, mix, pad_crop
from zenopt.train.loader import Key, TrainBatches
from zenopt.train.recipe import Erasing, load_recipe


def draws(count: int, *key: int) -> BatchRandom:
    return BatchRandom(key or (0,), count, slice(0, count))


def test_pad_crop_shifts_by_at_most_the_padding_and_fills_with_black() -> None:
    image = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(200, 3, 8, 8).contiguous()
    moved = pad_crop(image, 2, draws(200))
    padded = torch.nn.functional.pad(image[0], (2, 2, 2, 2))
    options = {(y, x): padded[:, y : y + 8, x : x + 8] for y in range(5) for x in range(5)}
    seen = set()
    for one in moved:
        match = [place for place, option in options.items() if torch.equal(one, option)]
        assert len(match) == 1
        seen.add(match[0])
    assert len(seen) == 25  # 200 draws of 25 places: all but certainly each


def test_flip_mirrors_about_half() -> None:
    images = torch.arange(4, dtype=torch.uint8).expand(1000, 3, 4, 4)
    flipped = flip(images, 0.5, draws(1000))
    mirrored = (flipped[:, 0, 0, 0] == 3).sum().item()
    assert 430 < mirrored < 570
    assert torch.equal(flip(images, 1.0, draws(1000)), images.flip(-1))
    assert flip(images, 0.0, draws(1000)) is images


def test_erasing_keeps_to_area_and_share() -> None:
    images = torch.ones(2000, 3, 32, 32)
    erased = erase(images, Erasing(probability=0.5, area=(0.02, 0.33), ratio=(0.3, 3.3)), draws(2000))
    shares = 1 - erased[:, 0].mean((1, 2))
    assert torch.equal(erased[:, 0], erased[:, 1])
    touched = shares[shares > 0]
    assert 900 < len(touched) < 1100
    # Sides are rounded to pixels: half a pixel on the sides of the smallest and the largest box.
    assert touched.min() > 0.01 and touched.max() < 0.36
    # Mean area is (0.02 + 0.33) / 2 = 0.175, a little less because boxes that do not fit are drawn again.
    assert touched.mean().item() == pytest.approx(0.17, abs=0.02)


def test_cutout_covers_a_square_that_may_hang_over() -> None:
    cut = cutout(torch.ones(500, 3, 32, 32), 16, draws(500))
    sizes = (cut[:, 0] == 0).sum((1, 2))
    assert sizes.max() == 256 and sizes.min() >= 64


def test_lighting_adds_one_colour_to_an_image() -> None:
    noise = lighting(torch.zeros(400, 3, 4, 4), 0.1, draws(400))
    assert torch.equal(noise, noise[:, :, :1, :1].expand_as(noise))
    # Standard deviation of channel c: 0.1 * sqrt(sum_k (vector[c, k] * value[k])^2); red: 0.0124.
    assert noise[:, 0, 0, 0].std().item() == pytest.approx(0.0124, rel=0.15)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, None), (None, 1.0), (0.2, 1.0)])
def test_mixing_keeps_images_and_targets_in_step(mixup: float | None, cutmix: float | None) -> None:
    # Image i is the constant i / 8 and its class is i, so the mean pixel tells the proportions.
    labels = torch.arange(8)
    images = (labels / 8).view(8, 1, 1, 1).expand(8, 3, 16, 16).contiguous()
    targets = torch.nn.functional.one_hot(labels, 8).float()
    for step in range(20):
        mixed, soft = mix(images, targets, mixup, cutmix, draws(8, 0, step))
        assert torch.allclose(soft.sum(1), torch.ones(8))
        assert torch.allclose(mixed.mean((1, 2, 3)), soft @ (labels / 8), atol=1e-5)


def test_mixup_draws_from_beta() -> None:
    shares = [BatchRandom((0, step), 2, slice(0, 2)).beta(0.2) for step in range(4000)]
    # Variance of Beta(a, a) is 1 / (4 (2a + 1)) = 0.179.
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(0.179, abs=0.01)


@pytest.mark.parametrize(
    "options",
    [
        ["augment.policy=autoaugment-cifar10"],
        ["augment.policy=autoaugment-imagenet"],
        ["augment.policy=autoaugment-svhn"],
        ["augment.policy=randaugment"],
        ["augment.policy=trivialaugment"],
        ["augment.color_jitter={brightness: 0.4}"],
        ["augment.crop={kind: random_resized}"],
        ["augment.crop={kind: random_resized}", "augment.policy=randaugment", "augment.lighting=0.1"],
    ],
)
def test_policies_repeat_by_key_and_change_images(patches, options: list[str]) -> None:  # type: ignore[no-untyped-def]
    state = torch.random.get_rng_state()
    plain = TrainBatches(patches.train, 4, load_recipe("basic"), 16, "none")
    batches = TrainBatches(patches.train, 4, load_recipe("basic", options), 16, "none")
    key = Key((0, 0, 0), list(range(24)), slice(0, 24))
    one, again = batches[key], batches[key]
    assert one.images.shape == (24, 3, 16, 16) and torch.isfinite(one.images).all()
    assert torch.equal(one.images, again.images)
    assert not torch.equal(one.images, plain[key].images)
    # Augmentation leaves torch's global generator alone.
    assert torch.equal(state, torch.random.get_rng_state())
