"""What every network of the table keeps to. A newcomer needs one row in `ROWS`, and fails here until it has one."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import pathlib
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfllv import contracts, models


@dataclasses.dataclass(frozen=True)
class Row:
    """What the harness must know of a network.

    Attributes:
      parameters: trainable and other.
      options: for `build`, so that the paths that the defaults leave out are run.
      parameters_built: where those options make a smaller network than the default.
      tolerance: between two ways of running the same weights, absolute, on values of about 1.
    """

    parameters: int
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    tolerance: float = 1e-5
    parameters_built: int | None = None


ROWS = {
    # The one look from pure noise divides the noise's estimate by alpha = 0.0064; values are of some hundreds.
    "diffusion_unet": Row(14_715_681, {"n_feat": 8, "depth": 3}, parameters_built=297_689, tolerance=1e-2),
    "diffusion_unet_small": Row(972_464),
    # Few channels and one block: the default's 31.8 million parameters are counted in test_mirnet.py.
    "mirnet": Row(31_787_419, {"n_feat": 24, "n_RRG": 1, "n_MSRB": 1}, parameters_built=749_072),
    "mirnet_small": Row(773_720, {"work_size": 16}),
    "pix2pix": Row(54_413_955, {"n_feat": 4, "depth": 3}, parameters_built=6_251),
    # Moving statistics: those of a batch make its pictures touch each other, and tests/train has them on two replicas.
    "resnet_unet": Row(32_643_946, {"num_classes": 4, "width": 1, "statistics": "moving"}, parameters_built=24_057_046),
    "sgz": Row(10_561, {"scale_factor": 3}),
    "zero_dce": Row(79_416),
    "zero_dce_pp": Row(10_561, {"scale_factor": 2}),
}
SIZES = [(1, 1), (7, 5), (13, 25), (16, 16)]

every_network = pytest.mark.parametrize("name", sorted(ROWS))


def test_every_network_has_a_row_and_every_row_a_network():
    assert set(ROWS) == set(models.MODELS)


@pytest.fixture(scope="module")
def built():
    """Each network is built once."""
    return {name: models.build(name, **row.options) for name, row in ROWS.items() if name in models.MODELS}


def images(size=(13, 25), batch=2):
    return np.random.default_rng(1).uniform(0, 1, (batch, *size, 3)).astype(np.float32)


def assert_same(expected, received, tolerance):
    assert set(expected) == set(received)
    for key in expected:
        np.testing.assert_allclose(received[key], expected[key], rtol=0, atol=tolerance, err_msg=key)


@every_network
def test_network_is_built_by_the_table(built, name):
    network, row = built[name], models.MODELS[name]
    assert isinstance(network, keras.Model)
    assert type(network).__name__ == row.class_name
    assert network.built
    assert network.count_params() == (ROWS[name].parameters_built or ROWS[name].parameters)
    assert f"{ROWS[name].parameters:,} parameters" in row.summary


@every_network
@pytest.mark.parametrize("size", SIZES)
def test_every_size_gives_a_dict_with_an_image_of_its_shape(built, name, size):
    low = images(size)
    output = built[name](low)
    assert isinstance(output, dict)
    assert output[contracts.IMAGE].shape == low.shape
    for key, value in output.items():
        assert isinstance(key, str)
        assert value.dtype == tf.float32
        assert np.isfinite(value).all()


@every_network
def test_flat_and_black_images_give_finite_results(built, name):
    for value in (0.0, 0.5, 1.0):
        assert np.isfinite(built[name](np.full((1, 9, 9, 3), value, np.float32))[contracts.IMAGE]).all()


@every_network
def test_pictures_of_a_batch_do_not_touch_each_other(built, name):
    low = images()
    alone = [built[name](low[index : index + 1])[contracts.IMAGE][0] for index in range(len(low))]
    np.testing.assert_allclose(built[name](low)[contracts.IMAGE], alone, rtol=0, atol=ROWS[name].tolerance)


@every_network
def test_every_trainable_variable_gets_a_gradient(built, name):
    network = built[name]
    with tf.GradientTape() as tape:
        output = network(images(), training=True)
        loss = sum(tf.reduce_sum(tf.square(value)) for value in output.values())
    for variable, gradient in zip(
        network.trainable_variables, tape.gradient(loss, [v.value for v in network.trainable_variables]), strict=True
    ):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


@every_network
def test_weights_survive_their_file(tmp_path, built, name):
    built[name].save_weights(tmp_path / "a.weights.h5")
    other = models.build(name, **ROWS[name].options, seed=7)
    assert np.any(other(images())[contracts.IMAGE] != built[name](images())[contracts.IMAGE])
    other.load_weights(tmp_path / "a.weights.h5")
    assert_same(built[name](images()), other(images()), 0)


@every_network
def test_keras_file_rebuilds_the_network(tmp_path, built, name):
    built[name].save(tmp_path / "a.keras")
    other = keras.saving.load_model(tmp_path / "a.keras")
    assert type(other) is type(built[name])
    assert other.get_config() == built[name].get_config()
    assert_same(built[name](images()), other(images()), 0)


@every_network
def test_graph_of_unknown_sizes_equals_eager(built, name):
    graph = tf.function(built[name], input_signature=[tf.TensorSpec([None, None, None, 3])])
    for size in SIZES:
        assert_same(built[name](images(size)), graph(images(size)), ROWS[name].tolerance)
    assert graph.experimental_get_tracing_count() == 1


@every_network
def test_functional_use_knows_the_shapes(built, name):
    inputs = keras.Input((None, None, 3))
    outputs = built[name](inputs)
    real = built[name](images())
    for key, value in outputs.items():
        assert len(value.shape) == len(real[key].shape)
        assert all(side in (None, known) for side, known in zip(value.shape, real[key].shape, strict=True)), key
    assert_same(real, keras.Model(inputs, outputs)(images()), ROWS[name].tolerance)


# Most take seconds each.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("sgz", "pix2pix"))) for name in sorted(ROWS)]
)
def test_saved_model_agrees_when_it_is_loaded_again(tmp_path, built, name):
    # Keras says on every export how to load it.
    built[name].export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"]
    for size in SIZES:
        assert_same(built[name](images(size)), served(tf.constant(images(size))), ROWS[name].tolerance)


@every_network
def test_no_module_of_a_network_imports_tensorflow(name):
    folder = pathlib.Path(models.__file__).parent
    for path in [pathlib.Path(importlib.import_module(models.MODELS[name].module).__file__), *folder.glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(word.split(".")[0] == "tensorflow" for word in names), path.name
