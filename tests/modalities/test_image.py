"""What is particular to images."""

import numpy as np
import pytest
from specs import image_item

from components.core.errors import DataError
from components.core.modality import find_modality, make_reader
from components.core.records import DataSpec, ItemSpec, spec_of
from components.core.units import to_stored, to_units
from components.modalities.image import alike
from components.modalities.image.alike import VALUES_MAX

SHAPES = [(8, 8, 1), (32, 32, 3), (65, 47, 4), (28, 9, 2), (256, 256, 1)]
TINY = [(1, 1, 1), (5, 40, 3), (7, 7, 1)]


def scenes(n: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Smooth pictures of chance with a dark edge: uint8 [N, H, W, C]."""
    height, width, channels = shape
    rng = np.random.default_rng(0)
    down, across = (np.linspace(0, np.pi, side)[:, None] * np.arange(1, 5) for side in (height, width))
    waves = np.einsum("nabc,ha,wb->nhwc", rng.normal(size=(n, 4, 4, channels)), np.sin(down), np.sin(across))
    return np.clip(110 + 25 * waves, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES + TINY)
def test_vectors_are_bounded_and_the_first_of_the_variants(shape: tuple[int, int, int]) -> None:
    image, items = find_modality("image"), scenes(3, shape)
    vectors, variants, sketches = image.vectors(items), image.variants(items), image.sketches(items)
    assert vectors.shape[1] <= VALUES_MAX
    assert np.array_equal(variants[0], vectors)
    assert (vectors.dtype, variants.dtype, sketches.dtype) == (np.float32,) * 3
    assert (len(sketches), np.isfinite(sketches).all()) == (3, True)
    assert (len(variants) == 1) == (shape in TINY)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shift_a_mirror_and_a_gain_leave_an_image_the_same(shape: tuple[int, int, int]) -> None:
    image, items = find_modality("image"), scenes(6, shape)
    known, sketches = image.vectors(items), image.sketches(items)
    by = [max(1, round(side / 16)) for side in shape[:2]]
    for changed in (
        np.roll(items, by, (1, 2)),
        np.roll(items, -by[0], 1),
        items[:, :, ::-1],
        (0.8 * items + 20).astype(np.uint8),
    ):
        nearest = np.linalg.norm(image.variants(changed)[:, :, None] - known, axis=3).min(axis=0)
        assert nearest.diagonal().max() < 0.25  # where the shift is half a pixel of the reduced image
        assert (nearest.argmin(axis=1) == np.arange(6)).all()
        near = np.linalg.norm(image.sketches(changed)[:, None] - sketches, axis=2)
        assert (near.argmin(axis=1) == np.arange(6)).all()


def test_tiny_images_are_compared_as_they_are() -> None:
    """A gain would make all images of one pixel the same."""
    levels = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1, 1)
    assert find_modality("image").vectors(levels)[:, 0].tolist() == pytest.approx([0, 0.2, 1])


def test_noise_on_flat_images_is_not_blown_up() -> None:
    flat = np.full((2, 16, 16, 1), 128, np.uint8)
    flat[1, ::2] += 1
    assert np.linalg.norm(find_modality("image").vectors(flat), axis=1).tolist() == pytest.approx([0, 0.1], abs=0.02)


def test_stored_items_and_data_units_are_each_others_inverse() -> None:
    item = image_item(2, 128, 3)
    stored = np.arange(3 * 256, dtype=np.uint8).reshape(1, 2, 128, 3)
    units = to_units(stored, item)
    assert (units.shape, units.dtype) == ((1, 3, 2, 128), np.float32)
    assert (units.min(), units.max()) == (-1, 1)
    assert np.array_equal(to_stored(units, item), stored)


def test_a_spec_is_found_by_its_modality_and_told_from_what_is_stored() -> None:
    item = spec_of("image").of_stored((8, 9, 3), {})
    assert item == image_item(8, 9, 3)
    assert (item.shape, item.stored_shape, item.text, item.side, item.details) == ((3, 8, 9), (8, 9, 3), "8x9x3", 9, {})
    spec = DataSpec(item=item)
    assert DataSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match="no modality 'smell'; allowed: image"):
        DataSpec.model_validate({"item": {"modality": "smell"}})
    assert not hasattr(ItemSpec, "height")


def test_an_option_that_images_have_not_is_refused() -> None:
    with pytest.raises(DataError, match="--rate given for the modality image; allowed: --side, --background, --levels"):
        make_reader(find_modality("image"), {"rate": 1})


@pytest.mark.parametrize("side", [40, 48, 63, 64, 90, 128])
def test_an_image_moved_by_a_few_pixels_is_a_variant_of_it(side: int) -> None:
    """However fine its detail is: where images are reduced, by pixels of the reduced image and by parts of them."""
    noise = np.random.default_rng(0).integers(0, 256, (1, side + 6, side + 6, 3), dtype=np.uint8)
    known = alike.vectors(noise[:, 3:-3, 3:-3])
    for down, across in ((0, 1), (1, 0), (1, 1), (2, -2), (-1, 2)):
        moved = noise[:, 3 + down : 3 + down + side, 3 + across : 3 + across + side]
        for seen in (moved, moved[:, :, ::-1]):
            nearest = np.linalg.norm(alike.variants(seen) - known, axis=2).min()
            assert nearest < 0.02, (down, across)
