from __future__ import annotations

import numpy as np
import pytest

from tfllv import models
from tfllv.models.torch_import import import_weights

TOLERANCE = 1e-5  # measured 6e-7; the rest is room for the convolution algorithms of other machines


@pytest.fixture
def golden(goldens):
    return np.load(goldens / "curve_networks_astronaut.npz")


def test_published_zero_dce_gives_the_reference(shared, golden):
    network = import_weights("zero_dce", shared / "weights" / "zero_dce_Epoch99.pth")
    output = network(golden["input_uint8"][None] / np.float32(255))
    assert output["curve"].shape[-1] == 24
    np.testing.assert_allclose(output["image"][0], golden["zero_dce"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("scale", [1, 12])
def test_published_zero_dce_pp_gives_the_reference(shared, golden, scale):
    network = models.build("zero_dce_pp", scale_factor=scale)
    import_weights("zero_dce_pp", shared / "weights" / "zero_dce_pp_Epoch99.pth", network)
    output = network(golden["input_uint8"][None] / np.float32(255))
    np.testing.assert_allclose(output["image"][0], golden[f"zero_dce_pp_scale{scale}"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(output["curve"][0], golden[f"zero_dce_pp_scale{scale}_x_r"], rtol=0, atol=TOLERANCE)


def test_zero_dce_pp_works_on_a_twelfth_of_each_side_by_default():
    network = models.build("zero_dce_pp")
    assert network.scale_factor == 12
    assert network.shrink(np.zeros((1, 25, 24, 3), np.float32)).shape == (1, 3, 2, 3)
