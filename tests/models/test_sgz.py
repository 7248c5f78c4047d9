from __future__ import annotations

import numpy as np
import pytest

from tfllv import models
from tfllv.models.torch_import import import_weights

# Measured 6e-7: float32 rounding. The rest is room for the convolution algorithms of other machines.
TOLERANCE = 1e-5


@pytest.mark.parametrize("scale", [1, 2, 12])
def test_published_weights_give_the_reference_on_a_dark_photo(shared, scale):
    golden = np.load(shared / "goldens" / "sgz_lol1_crop.npz")
    network = models.build("sgz", scale_factor=scale)
    output = import_weights("sgz", shared / "weights" / "sgz_Epoch99.pth", network)(
        golden["input_uint8"][None] / np.float32(255)
    )
    np.testing.assert_allclose(output["image"][0], golden[f"enhanced_scale{scale}"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(output["curve"][0], golden[f"x_r_scale{scale}"], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("scale", [1, 12])
def test_published_weights_give_the_reference_on_the_astronaut(shared, goldens, scale):
    golden = np.load(goldens / "curve_networks_astronaut.npz")
    network = models.build("sgz", scale_factor=scale)
    output = import_weights("sgz", shared / "weights" / "sgz_Epoch99.pth", network)(
        golden["input_uint8"][None] / np.float32(255)
    )
    np.testing.assert_allclose(output["image"][0], golden[f"sgz_scale{scale}"], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(output["curve"][0], golden[f"sgz_scale{scale}_x_r"], rtol=0, atol=TOLERANCE)


def test_published_weights_brighten_every_odd_size(shared, goldens):
    image = np.load(goldens / "curve_networks_astronaut.npz")["input_uint8"] / np.float32(255)
    network = models.build("sgz", scale_factor=12)
    import_weights("sgz", shared / "weights" / "sgz_Epoch99.pth", network)
    for height, width in [(1, 1), (7, 5), (13, 25), (149, 191)]:
        part = image[None, :height, :width]
        enhanced = np.asarray(network(part)["image"])
        assert enhanced.shape == part.shape
        assert enhanced.mean() > part.mean()
