from __future__ import annotations

import numpy as np
import pytest

from tfllv.ops import batches


@batches.per_image
def halve(image: np.ndarray, *, twice: bool = False) -> np.ndarray:
    """Halves."""
    assert image.ndim == 3 and image.dtype == np.float32
    return image / np.float32(4 if twice else 2)


def test_options_and_batches_pass_through(rng):
    batch = rng.random((3, 4, 5, 3), np.float32)
    np.testing.assert_array_equal(halve(batch, twice=True), batch / 4)
    np.testing.assert_array_equal(halve(batch[0]), batch[0] / 2)
    assert halve.__name__ == "halve"


def test_uint8_is_read_as_levels_of_255():
    assert halve(np.full((2, 2, 3), 255, np.uint8)).max() == 0.5


def test_a_flat_list_is_refused():
    with pytest.raises(ValueError, match="image"):
        halve([1.0, 2.0])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 3), (4000, 6000), (3, 10**6), (1000, 1)])
def test_strips_cover_every_row_once_and_stay_small(height, width):
    strips = list(batches.row_strips(height, width))
    assert [row for strip in strips for row in range(strip.start, strip.stop)] == list(range(height))
    assert max(strip.stop - strip.start for strip in strips) <= max(1, batches.STRIP_PIXELS // width)
