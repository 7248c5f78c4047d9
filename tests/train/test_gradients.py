"""Gradients for a CPU are TensorFlow's own to rounding, and are taken where they are meant to be."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tensorflow as tf

from tfllv.train import gradients


def depthwise(strides, padding):
    return lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, strides, strides, 1], padding)


def conv(strides, padding="SAME", **options):
    return lambda x, w: tf.nn.conv2d(x, w, strides, padding, **options)


def both(function, x, w, block=gradients.for_cpu):
    """The gradients of a weighted sum of `function` by both arguments, and the operations that give them."""

    @tf.function(autograph=False)
    def differentiate(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = function(x, w)
            scale = tf.reshape(tf.range(tf.cast(tf.size(y), x.dtype)) % 7 - 3, tf.shape(y))
            loss = tf.reduce_sum(y * scale)
        with block():
            return tape.gradient(loss, [x, w], unconnected_gradients="zero")

    traced = differentiate.get_concrete_function(tf.constant(x), tf.constant(w))
    return [each.numpy() for each in traced(tf.constant(x), tf.constant(w))], traced.graph.get_operations()


def draw(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel", [(5, 5), (7, 7), (3, 4), (2, 6)])
@pytest.mark.parametrize(
    ("size", "padding"),
    [((8, 11), "SAME"), ((9, 8), "SAME"), ((2, 1), "SAME"), ((1, 2), "SAME"), ((8, 11), "VALID"), ((9, 8), "VALID")],
)
def test_wide_depthwise_kernels_have_their_filter_gradient_in_parts(size, kernel, strides, padding):
    x, w = draw(2, *size, 3), draw(*kernel, 3, 2)
    expected, _ = both(depthwise(strides, padding), x, w, contextlib.nullcontext)
    found, operations = both(depthwise(strides, padding), x, w)
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-12, atol=1e-12)
    parts = [each for each in operations if each.type == "DepthwiseConv2dNativeBackpropFilter"]
    columns = [tf.get_static_value(each.inputs[1])[1] for each in parts]
    # TensorFlow's own is built with them, for the other gradient, and nothing uses it.
    used = [count for each, count in zip(parts, columns, strict=True) if each.outputs[0].consumers()]
    assert max(used) == 3 and sum(used) == kernel[1]


@pytest.mark.parametrize("size", [3, 40])
def test_1x1_kernels_have_products_for_gradients(size, monkeypatch):
    monkeypatch.setattr(gradients, "_POSITIONS", 100)
    x, w = draw(2, size, size, 5), draw(1, 1, 5, 4)
    expected, _ = both(conv(1), x, w, contextlib.nullcontext)
    found, operations = both(conv(1), x, w)
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-12, atol=1e-12)
    assert sum(each.type == "MatMul" for each in operations) == (2 if size == 3 else 1)


@pytest.mark.parametrize(
    ("function", "kernel"),
    [
        (conv(2), (1, 1, 6, 4)),
        (conv(1), (3, 3, 6, 4)),
        (conv(1, dilations=2), (3, 3, 6, 4)),
        (conv(1), (1, 1, 3, 4)),  # two groups of channels
        (conv(1, [[0, 0], [1, 1], [2, 0], [0, 0]]), (1, 1, 6, 4)),
        (depthwise(1, "SAME"), (3, 3, 6, 1)),
        (lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 2, 2, 1], "VALID"), (3, 3, 6, 1)),
    ],
)
def test_every_other_convolution_keeps_tensorflows_gradient(function, kernel):
    x, w = draw(2, 6, 6, 6).astype(np.float32), draw(*kernel).astype(np.float32)
    expected, operations = both(function, x, w, contextlib.nullcontext)
    found, same = both(function, x, w)
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(two, one)
    assert [each.type for each in same] == [each.type for each in operations]


def swish(x, w):
    return x * tf.sigmoid(x) + 0 * w


def test_swish_has_one_compiled_gradient_and_other_gates_have_their_own():
    x, w = draw(2, 5, 5, 3), draw(2, 5, 5, 3)
    expected, _ = both(swish, x, w, contextlib.nullcontext)
    found, operations = both(swish, x, w)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12, atol=1e-12)
    assert "SigmoidGrad" not in [each.type for each in operations]

    def gate(x, w):
        return x * tf.sigmoid(w)

    expected, _ = both(gate, x, w, contextlib.nullcontext)
    found, operations = both(gate, x, w)
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_array_equal(two, one)
    assert "SigmoidGrad" in [each.type for each in operations]


def test_a_sigmoid_that_is_used_twice_has_both_its_gradients():
    def function(x, w):
        gate = tf.sigmoid(x)
        return x * gate + w * gate

    x, w = draw(2, 5, 5, 3), draw(2, 5, 5, 3)
    expected, _ = both(function, x, w, contextlib.nullcontext)
    found, _ = both(function, x, w)
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-12, atol=1e-12)


def test_sizes_that_are_not_known_work():
    def unknown(function):
        def hide(x, w):
            return function(tf.raw_ops.PlaceholderWithDefault(input=x, shape=[None] * 4), w)

        return hide

    x = draw(2, 6, 6, 6)
    for function, w in ((conv(1), draw(1, 1, 6, 4)), (depthwise(1, "SAME"), draw(5, 5, 6, 1))):
        expected, _ = both(unknown(function), x, w, contextlib.nullcontext)
        found, _ = both(unknown(function), x, w)
        for one, two in zip(expected, found, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-12, atol=1e-12)


def test_tensorflow_has_its_own_gradients_again_after_the_block():
    from tensorflow.python.framework import ops

    before = {name: ops.gradient_registry.lookup(name) for name in gradients.REPLACEMENTS}
    with pytest.raises(ZeroDivisionError), gradients.for_cpu():
        assert all(ops.gradient_registry.lookup(name) is not old for name, old in before.items())
        raise ZeroDivisionError
    assert {name: ops.gradient_registry.lookup(name) for name in before} == before


def test_a_machine_with_an_accelerator_keeps_tensorflows_gradients(monkeypatch):
    from tensorflow.python.framework import ops

    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["one"] if kind == "GPU" else [])
    before = {name: ops.gradient_registry.lookup(name) for name in gradients.REPLACEMENTS}
    with gradients.for_cpu():
        assert {name: ops.gradient_registry.lookup(name) for name in before} == before
