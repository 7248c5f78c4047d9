"""Counting multiply-accumulates on the graph."""

from __future__ import annotations

import keras
import pytest

from tfllv.evaluate import network_cost


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (lambda: keras.layers.Conv2D(8, 3, padding="same"), 10 * 12 * 8 * 3 * 9),
        (lambda: keras.layers.Conv2D(8, 3, strides=2, padding="same"), 5 * 6 * 8 * 3 * 9),
        (lambda: keras.layers.DepthwiseConv2D(5, padding="same", depth_multiplier=2), 10 * 12 * 6 * 25),
        (lambda: keras.layers.Conv2DTranspose(4, 2, strides=2), 10 * 12 * 3 * 4 * 4),
        (lambda: keras.layers.Dense(7), 10 * 12 * 3 * 7),
        (lambda: keras.layers.ReLU(), 0),
    ],
    ids=["conv", "strided", "depthwise", "transposed", "dense", "relu"],
)
def test_layers_cost_what_pencil_and_paper_say(layer, macs):
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, layer()(inputs))
    assert network_cost.count_macs(network, height=10, width=12) == macs


def test_a_layer_used_twice_costs_twice_and_its_parameters_once():
    layer = keras.layers.Conv2D(3, 1, use_bias=False)
    inputs = keras.Input((None, None, 3))
    network = keras.Model(inputs, layer(layer(inputs)))
    assert network_cost.network_cost(network, height=2, width=5) == {"parameters": 9, "macs": 2 * 10 * 9}
