"""What is particular to images."""

import numpy as np
import pytest
from specs import image_item

from components.core.errors import DataError
from components.core.modality import find_modality, make_reader
from components.core.records import DataSpec, ItemSpec, spec_of
from components.core.units import to_stored, to_units
from components.modalities.image.modality import VALUES_MAX


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (65, 47, 4), (256, 256, 1)])
def test_pixels_are_averaged_down_to_a_bound(shape: tuple[int, int, int]) -> None:
    vectors = find_modality("image").vectors(np.full((3, *shape), 51, np.uint8))
    assert vectors.shape[1] <= VALUES_MAX
    assert vectors == pytest.approx(np.full(vectors.shape, 0.2))


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
