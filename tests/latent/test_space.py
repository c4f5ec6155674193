"""What a code is, is read off the code; who has none, or no classes to be told, is refused in one line."""

from typing import Any

import numpy as np
import pytest
import torch
from specs import image_item

from components.core.errors import InputError
from components.latent.arithmetic import add, attribute, beside_originals
from components.latent.space import Items, LatentSpace, cloud, spread_over, take
from components.latent.traversal import traverse


class Split:
    item = image_item(1, 1, 1)

    def __init__(self, n: int, labels: bool = True) -> None:
        self.images = np.arange(n, dtype=np.uint8)[:, None, None, None]
        self.labels = np.arange(n) % 3 if labels else None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Any) -> Any:
        return self.images[indices]


def test_items_are_taken_and_spread_over_a_split() -> None:
    assert take(Split(9), [5, 1]).images.ravel().tolist() == [5, 1]
    assert take(Split(9), [5, 1]).labels.tolist() == [2, 1]
    assert take(Split(9, labels=False), [5]).labels is None
    assert spread_over(Split(9), at_most=3).images.ravel().tolist() == [0, 3, 6]
    assert spread_over(Split(9), at_most=30).images.ravel().tolist() == [*range(9)]
    with pytest.raises(InputError, match=r"item 9 of 9; allowed: 0 to 8"):
        take(Split(9), [1, 9])


def test_there_are_codes_of_every_kind(build: Any, held_out: Items) -> None:
    some = Items(held_out.images[:4])
    kinds = {
        name: LatentSpace(build(name)).encode(some) for name in ("vae/gaussian", "diffusion/latent", "flow/realnvp", "vae/vq")
    }
    assert [z.ndim for z in kinds.values()] == [2, 4, 2, 3]
    assert [z.dtype for z in kinds.values()] == [torch.float32] * 3 + [torch.int64]


def test_every_latent_space_is_walked_in(build: Any, any_kind: tuple[str, bool], train: Items, held_out: Items) -> None:
    space = LatentSpace(build(any_kind[0], conditional=any_kind[1]), vectors=True)
    some = Items(held_out.images[:3], held_out.labels[:3])
    z_NU = space.encode(Items(train.images[:50], train.labels[:50]))
    around = cloud(z_NU)
    images, told = traverse(space, Items(some.images[:1], some.labels[:1]), around, units=2, points=3)
    assert images.shape == (6, 8, 8, 1)
    assert told.units[0].std >= told.units[1].std > 0
    v_U, _ = attribute(z_NU[:20], z_NU[20:], around)
    changed = add(space, some, v_U, strengths=[0.0, 1.0])
    assert np.array_equal(changed[::2], space.rebuild(some))
    assert not np.array_equal(changed[1::2], changed[::2])


def test_vectors_of_a_codebook_lead_to_the_same_images_as_its_integers(build: Any, held_out: Items) -> None:
    family = build("vae/vq")
    vectors, integers = LatentSpace(family, vectors=True), LatentSpace(family)
    assert vectors.encode(held_out).is_floating_point()
    assert np.array_equal(vectors.rebuild(held_out), integers.rebuild(held_out))


def test_a_model_without_a_latent_space_is_refused(build: Any) -> None:
    with pytest.raises(InputError, match="gan/dcgan has no latent space"):
        LatentSpace(build("gan/dcgan"))


def test_a_model_that_is_told_classes_wants_them(build: Any, held_out: Items) -> None:
    space = LatentSpace(build("vae/gaussian", conditional=True))
    with pytest.raises(InputError, match="these have none; put them into folders named by class: 0, 1, 2"):
        space.encode(Items(held_out.images[:2]))


def test_batches_change_no_code(autoencoder: LatentSpace, held_out: Items) -> None:
    z_NU = autoencoder.encode(held_out)
    assert len(held_out) > 200
    torch.testing.assert_close(z_NU[150:153], autoencoder.encode(Items(held_out.images[150:153])), atol=1e-5, rtol=1e-5)


def test_attributes_of_a_linear_model_are_differences_of_mean_images(
    rotation: LatentSpace, train: Items, held_out: Items
) -> None:
    zeros, ones = (Items(train.images[train.labels == kind]) for kind in (0, 1))
    around = cloud(rotation.encode(train))
    v_U, told = attribute(rotation.encode(ones), rotation.encode(zeros), around)
    some, strengths = Items(held_out.images[:5]), [-0.5, 0.0, 0.25, 1.0]
    changed = add(rotation, some, v_U, strengths=strengths)
    difference = ones.images.astype(np.float64).mean(0) - zeros.images.astype(np.float64).mean(0)
    expected = some.images[:, None] + np.array(strengths)[:, None, None, None] * difference
    assert np.abs(changed.reshape(expected.shape) - np.clip(expected, 0, 255)).max() <= 0.51
    assert (told.plus, told.minus) == (len(ones), len(zeros))
    assert told.norm == pytest.approx(np.linalg.norm(difference) / 127.5, rel=1e-4)
    assert told.spread == pytest.approx(np.sqrt((train.images / 127.5).var(0).sum()), rel=1e-4)
    rows = beside_originals(changed, some).reshape(5, 5, 8, 8, 1)
    assert np.array_equal(rows[:, 0], some.images)
    assert np.array_equal(rows[:, 2], some.images)  # strength 0


def test_a_traversal_moves_one_unit_and_the_most_active_first(rotation: LatentSpace, train: Items, held_out: Items) -> None:
    z_NU = rotation.encode(train)
    around, item = cloud(z_NU), Items(held_out.images[:1])
    images, told = traverse(rotation, item, around, units=3, points=5)
    assert [unit.unit for unit in told.units] == z_NU.var(0).argsort(descending=True)[:3].tolist()
    assert told.units_total == 64
    assert told.units_active == int((z_NU.var(0, unbiased=False) > 0.01).sum())
    z_U = rotation.encode(item)[0]
    unit = told.units[1]
    for column, sigmas in enumerate((-3, -1.5, 0, 1.5, 3)):
        expected = z_U.clone()
        expected[unit.unit] = around.mean_U[unit.unit] + sigmas * unit.std
        assert np.array_equal(images[5 + column], rotation.decode(expected[None], None)[0])
