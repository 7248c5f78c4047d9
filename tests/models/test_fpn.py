import keras
import numpy as np
import pytest
import tensorflow as tf

from tfllv.models import fpn


@pytest.fixture(scope="module")
def sane():
    return fpn.FPN()


@pytest.fixture(scope="module")
def reference():
    return fpn.FPN(reference=True)


@pytest.fixture
def images(rng):
    return rng.uniform(size=(2, 64, 64, 3)).astype(np.float32)


def test_parameters_are_those_of_the_published_network(sane):
    learned = sum(int(np.prod(v.shape)) for v in sane.weights if not v.path.split("/")[-1].startswith("moving"))
    assert learned == 28_129_365
    assert sane.count_params() - sane.backbone.count_params() == 4_621_333


def test_the_network_is_frozen_in_both_modes(sane, reference):
    assert sane.trainable_variables == reference.trainable_variables == []


def test_the_head_is_drawn_small_and_without_bias(sane):
    weights = {layer.name: layer.get_weights() for layer in sane.layers if layer.weights and layer is not sane.backbone}
    assert len(weights) == 4 + 8 + 1
    for kernel, bias in weights.values():
        assert kernel.std() == pytest.approx(0.01, rel=0.02)
        assert abs(kernel.mean()) < 1e-3
        assert not bias.any()
    assert not np.array_equal(weights["smooth_c2_0"][0], weights["smooth_c3_0"][0])


def test_the_same_seed_gives_the_same_network(sane, reference):
    for one, other in zip(sane.weights, reference.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (1, 1)])
def test_logits_lie_at_stride_4(sane, size):
    logits = sane(np.zeros((1, *size, 3), np.float32))["logits"]
    assert logits.shape == (1, -(-size[0] // 4), -(-size[1] // 4), 21)


def test_logits_equal_the_head_written_out(sane, images):
    weights = {layer.name: layer.get_weights() for layer in sane.layers}

    def conv(x, name):
        kernel, bias = weights[name]
        return tf.nn.conv2d(x, kernel, 1, "SAME") + bias

    def resize(x, side):
        return tf.image.resize(x, (side, side))

    features = sane.backbone(images)
    p5 = conv(features["c5"], "lateral_c5")
    p4 = conv(features["c4"], "lateral_c4") + resize(p5, 4)
    p3 = conv(features["c3"], "lateral_c3") + resize(p4, 8)
    p2 = conv(features["c2"], "lateral_c2") + resize(p3, 16)
    smooth = [conv(conv(p, f"smooth_c{n}_0"), f"smooth_c{n}_1") for n, p in ((5, p5), (4, p4), (3, p3), (2, p2))]
    want = conv(tf.concat([resize(x, 16) for x in smooth], -1), "classify")
    np.testing.assert_allclose(sane(images)["logits"], want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_resizing_is_bilinear_about_pixel_centres():
    row = np.float32([0, 1]).reshape(1, 1, 2, 1)
    got = fpn.ResizeLike()(row, np.zeros((1, 1, 4, 3), np.float32))
    np.testing.assert_allclose(np.ravel(got), [0, 0.25, 0.75, 1])


def test_the_default_looks_at_each_picture_alone_and_the_reference_at_the_batch(sane, reference, images):
    for network, alone in ((sane, True), (reference, False)):
        both, first = network(images)["logits"][:1], network(images[:1])["logits"]
        assert np.allclose(both, first, rtol=1e-4, atol=1e-5 * np.abs(first).max()) == alone


@pytest.mark.parametrize("name", ["sane", "reference"])
def test_the_training_flag_changes_nothing(name, images, request):
    network = request.getfixturevalue(name)
    before = [np.asarray(variable) for variable in network.weights]
    np.testing.assert_array_equal(network(images, training=True)["logits"], network(images, training=False)["logits"])
    for variable, old in zip(network.weights, before, strict=True):
        np.testing.assert_array_equal(variable, old)


def test_only_the_default_normalises_its_input(sane, reference, images):
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    for network, want in ((sane, (images - mean) / std), (reference, images)):
        stem = network.backbone.get_layer("conv1_pad")
        probe = keras.Model(network.backbone.input, stem.input)
        np.testing.assert_allclose(probe(images), want, atol=1e-6)


@pytest.mark.parametrize("name", ["sane", "reference"])
def test_gradients_reach_the_picture(name, images, request):
    network, x = request.getfixturevalue(name), tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(network(x)["logits"] ** 2)
    gradient = tape.gradient(value, x).numpy()
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_options_survive_saving():
    options = {"num_classes": 3, "reference": True, "variant": "v1", "seed": 5}
    network = fpn.FPN(**options)
    assert {name: network.get_config()[name] for name in options} == options
    again = fpn.FPN.from_config(network.get_config())
    np.testing.assert_array_equal(again.get_layer("classify").kernel, network.get_layer("classify").kernel)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="`num_classes` must be >= 1"):
        fpn.FPN(num_classes=0)
