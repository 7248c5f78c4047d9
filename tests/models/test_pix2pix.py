from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv import models
from tfllv.models import pix2pix

TINY = {"n_feat": 4, "depth": 3}


def test_both_networks_have_the_authors_number_of_parameters():
    # Their code prints 54.414 M for the generator of 256 pixels and 2.769 M for the discriminator.
    assert models.build("pix2pix").count_params() == 54_413_955
    assert pix2pix.PatchGAN().count_params() == 2_768_705


def test_result_is_in_range(rng):
    network = models.build("pix2pix", **TINY)
    image = network(rng.uniform(0, 1, (1, 20, 30, 3)).astype(np.float32))["image"]
    assert image.shape == (1, 20, 30, 3)
    assert np.min(image) >= 0 and np.max(image) <= 1


def test_one_logit_sees_seventy_pixels(rng):
    network = pix2pix.PatchGAN(n_feat=4)
    pictures = tf.Variable(rng.uniform(0, 1, (1, 128, 128, 6)).astype(np.float32))
    # Normalisation sees the whole picture; without it, what is left is the convolutions' window.
    for unit in network.units:
        unit.norm = None
    with tf.GradientTape() as tape:
        logits = network(pictures)
        assert logits.shape == (1, 14, 14, 1)
        one = logits[0, 7, 7, 0]
    rows = np.flatnonzero(np.abs(tape.gradient(one, pictures)).sum((0, 2, 3)))
    assert rows[-1] - rows[0] + 1 == 70


@pytest.mark.parametrize("option", [{"depth": 1}, {"n_feat": 0}])
def test_a_wrong_option_is_one_clear_error(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number >= "):
        models.build("pix2pix", **option)
