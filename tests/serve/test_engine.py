from __future__ import annotations

import numpy as np
import pytest

from tfllv import enhancers
from tfllv.serve import engine
from tfllv.serve.limits import Limits


@pytest.fixture(scope="module")
def sgz():
    return engine.EnhancerEngine("sgz")


def test_a_network_gives_alone_and_in_a_batch_what_the_command_line_writes(sgz, toy):
    images = [toy.picture(60, 70, seed=seed) for seed in range(3)]
    expected = [enhancers.get("sgz").tiled(image) for image in images]
    for batch in (images[:1], images):
        for result, wanted in zip(sgz.run(batch), expected, strict=False):
            assert np.array_equal(result.image, wanted)


def test_16_bits_stay_16_bits(sgz, toy):
    images = [toy.picture(dtype=np.uint16), toy.picture(seed=1, dtype=np.uint16)]
    for result, image in zip(sgz.run(images), images, strict=True):
        assert result.image.dtype == np.uint16 and result.image.mean() > image.mean()


def test_classical_methods_go_one_by_one_on_all_cores():
    gamma = engine.EnhancerEngine("gamma")
    assert gamma.max_batch == 1
    assert gamma.tasks == {engine.ENHANCE}


def test_the_signatures_of_a_bundled_method_are_those_of_an_export(sgz, toy):
    outputs = sgz.predict("serving_bytes", {"image_bytes": np.array([toy.png()] * 2, object)}, Limits())
    (result,) = sgz.run([toy.decode(toy.png())])
    assert np.array_equal(toy.decode(outputs["image_bytes"][1]), result.image)
    floats = sgz.predict("serving_default", {"image": toy.decode(toy.png())[None] / np.float32(255)}, Limits())
    assert np.abs(floats["image"][0] * 255 - result.image).max() <= 0.51


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        ({}, 400),
        ({"picture": np.zeros((1, 2, 2, 3), np.float32)}, 400),
        ({"image": np.zeros((2, 2, 3), np.float32)}, 400),
        ({"image": np.zeros((1, 2, 2, 4), np.float32)}, 400),
        ({"image": np.zeros((1, 0, 2, 3), np.float32)}, 400),
        ({"image": np.zeros((3, 2, 2, 3), np.float32)}, 413),
        ({"image": np.zeros((1, 9, 9, 3), np.float32)}, 413),
    ],
)
def test_inputs_are_checked_before_anything_is_computed(inputs, status, toy):
    signature = toy.Brighten().signatures["serving_default"]
    with pytest.raises(toy.RefusalError) as caught:
        engine.check_inputs(signature, inputs, Limits(max_files=2, max_pixels=80))
    assert caught.value.status == status
