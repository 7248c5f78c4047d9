import numpy as np

from tfllv.ops import palette


def test_every_class_has_a_colour_of_its_own_and_void_is_grey():
    colors = palette.class_colors()
    assert colors.shape == (256, 3) and colors.min() >= 0 and colors.max() <= 1
    assert len(np.unique(colors.round(6), axis=0)) == 256
    near = np.linalg.norm(colors[:21, None] - colors[None, :21], axis=-1)[np.triu_indices(21, 1)]
    assert near.min() > 0.1  # 25 of 255 levels
    np.testing.assert_array_equal(palette.colorize(np.array([[3, 255]])), [[colors[3], palette.VOID]])
