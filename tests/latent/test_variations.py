"""Others like an image: by its embedding alone, the same by the same seed, whatever stands beside it."""

from typing import Any

import numpy as np
import pytest

from components.core.errors import InputError
from components.core.units import to_units
from components.latent.space import Items
from components.latent.variations import vary

SEEDS = (5, 6, 7)


def test_each_image_is_varied_by_each_seed_alone_as_in_company(build: Any, held_out: Items) -> None:
    family, few = build("diffusion/unclip"), Items(held_out.images[:4])
    made, told = vary(family, few, seeds=SEEDS)
    assert made.shape == (4, 3, *held_out.images.shape[1:])
    alone, _ = vary(family, Items(few.images[2:3]), seeds=SEEDS)
    assert np.array_equal(alone[0], made[2])
    one, spread = vary(family, few, seeds=SEEDS[1:2])
    assert np.abs(one[:, 0].astype(int) - made[:, 1]).max() <= 1, "but for the last bit of a sum in another order"
    assert spread.from_one_another is None
    x, others = (to_units(images, family.spec.item) for images in (few.images, made.reshape(12, *made.shape[2:])))
    assert told.from_item == pytest.approx(np.sqrt(np.mean((others.reshape(4, 3, *x.shape[1:]) - x[:, None]) ** 2)), abs=0.05)
    pairs = [np.mean((x[a] - x[b]) ** 2) for a in range(4) for b in range(a)]
    assert told.of_items == pytest.approx(np.sqrt(np.mean(pairs)), rel=1e-4)


def test_another_image_and_another_seed_make_another(build: Any, held_out: Items) -> None:
    made, _ = vary(build("diffusion/unclip"), Items(held_out.images[:2]), seeds=SEEDS)
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0, 0], made[0, 1])


def test_a_model_without_an_embedding_says_so(build: Any, held_out: Items) -> None:
    with pytest.raises(InputError, match=r"vae/gaussian draws no variations of an image; allowed: .* varies: true"):
        vary(build("vae/gaussian"), Items(held_out.images[:1]), seeds=SEEDS)
