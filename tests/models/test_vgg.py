from __future__ import annotations

import keras
import numpy as np
import pytest

from tfllv.models import vgg


@pytest.fixture(scope="module")
def network():
    return vgg.VGG16(weights="random", seed=2)


def test_features_are_those_of_keras_with_the_same_weights(network, rng):
    published = keras.applications.VGG16(include_top=False, weights=None)
    for layer in network.convolutions:
        published.get_layer(layer.name).set_weights(layer.get_weights())
    reference = keras.Model(published.input, [published.get_layer(name).output for name in vgg.LAYERS])
    image = rng.uniform(0, 1, (1, 19, 24, 3)).astype(np.float32)
    expected = reference(keras.applications.vgg16.preprocess_input(image * 255))
    for a, b in zip(network(image), expected, strict=True):
        # float32; features reach some hundreds.
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-2)


def test_nothing_of_it_is_trained(network):
    assert network.count_params() == 7_635_264
    assert network.trainable_variables == []


def test_torchvision_weights_are_read(tmp_path, torch_writer, network, rng):
    state = {"classifier.0.weight": np.zeros((1, 1), np.float32)}
    for layer, place in zip(network.convolutions, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21), strict=True):
        kernel, bias = layer.get_weights()
        state[f"features.{place}.weight"], state[f"features.{place}.bias"] = kernel.transpose(3, 2, 0, 1), bias
    state = {name: np.ascontiguousarray(array) for name, array in state.items()}
    file = str(torch_writer.write_state(tmp_path / "a.pth", state))
    other = vgg.VGG16(weights=file)
    for a, b in zip(other.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    # Its own normalisation: mean 0 and deviation 1 over ImageNet, not 255 levels.
    grey = np.broadcast_to(np.array([0.485, 0.456, 0.406], np.float32), (1, 8, 8, 3))
    np.testing.assert_allclose(other(grey)[0], 0, atol=1e-5)
    del state["features.21.bias"]
    with pytest.raises(ValueError, match=r"torchvision VGG-16\. Received: features\.21\.bias of shape none"):
        vgg.VGG16(weights=str(torch_writer.write_state(tmp_path / "b.pth", state)))


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="`weights` must be 'imagenet', 'random'"):
        vgg.VGG16(weights="imagenett")
