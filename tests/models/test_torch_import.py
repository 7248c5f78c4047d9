from __future__ import annotations

import numpy as np
import pytest

from tfllv import models
from tfllv.models import torch_import


@pytest.fixture
def make_state(rng):
    """A random state dict that fits a network."""

    def make(name, **options):
        targets = torch_import.TENSORS[name](models.build(name, **options))
        return {
            tensor: rng.standard_normal(target.torch_shape).astype(np.float32) for tensor, target in targets.items()
        }

    return make


@pytest.mark.parametrize("name", sorted(torch_import.TENSORS))
def test_every_variable_is_filled_by_exactly_one_tensor(name):
    network = models.build(name)
    entries = torch_import.TENSORS[name](network).values()
    filled = [id(entry.variable) for entry in entries if isinstance(entry, torch_import.Target)]
    assert sorted(filled) == sorted(id(variable) for variable in network.variables)


@pytest.mark.parametrize(
    ("name", "options", "tensor", "shape"),
    [
        ("sgz", {}, "e_conv5.depth_conv.weight", (64, 1, 3, 3)),
        ("sgz", {}, "e_conv7.point_conv.weight", (3, 64, 1, 1)),
        ("sgz", {"conv_type": "tc"}, "e_conv1.conv.weight", (32, 3, 3, 3)),
        ("zero_dce", {}, "e_conv7.weight", (24, 64, 3, 3)),
    ],
)
def test_torch_shapes_are_those_of_pytorch(name, options, tensor, shape):
    assert torch_import.TENSORS[name](models.build(name, **options))[tensor].torch_shape == shape


def test_axes_are_turned_as_the_layouts_say(tmp_path, torch_writer, make_state):
    state = make_state("sgz")
    network = torch_import.import_weights("sgz", torch_writer.write_state(tmp_path / "a.pth", state))
    kernel = state["e_conv2.depth_conv.weight"]
    np.testing.assert_array_equal(np.asarray(network.conv2.depthwise.kernel)[2, 1, 17, 0], kernel[17, 0, 2, 1])
    kernel = state["e_conv6.point_conv.weight"]
    np.testing.assert_array_equal(np.asarray(network.conv6.pointwise.kernel)[0, 0, 40, 9], kernel[9, 40, 0, 0])
    np.testing.assert_array_equal(network.conv7.pointwise.bias, state["e_conv7.point_conv.bias"])
    state = make_state("zero_dce")
    network = torch_import.import_weights("zero_dce", torch_writer.write_state(tmp_path / "b.pth", state, legacy=True))
    np.testing.assert_array_equal(np.asarray(network.conv7.kernel)[0, 2, 50, 11], state["e_conv7.weight"][11, 50, 0, 2])


def test_half_precision_weights_are_taken(tmp_path, torch_writer, make_state):
    state = {tensor: array.astype(np.float16) for tensor, array in make_state("sgz").items()}
    network = torch_import.import_weights("sgz", torch_writer.write_state(tmp_path / "a.pth", state))
    np.testing.assert_array_equal(network.conv1.depthwise.bias, state["e_conv1.depth_conv.bias"].astype(np.float32))


def test_message_names_every_fault_and_leaves_the_network_as_it_was(tmp_path, torch_writer, make_state):
    state = make_state("sgz")
    del state["e_conv1.depth_conv.bias"], state["e_conv7.point_conv.weight"]
    state["e_conv8.bias"] = state["e_conv2.depth_conv.bias"]
    state["e_conv3.depth_conv.weight"] = state["e_conv3.depth_conv.weight"].reshape(1, 32, 3, 3)
    state["e_conv4.depth_conv.bias"][3] = np.nan
    state["e_conv5.depth_conv.bias"] = np.arange(64)
    network = models.build("sgz")
    before = network.get_weights()
    file = torch_writer.write_state(tmp_path / "a.pth", state)
    with pytest.raises(ValueError, match="does not fit `sgz`") as error:
        torch_import.import_weights("sgz", file, network)
    message = str(error.value)
    assert "missing: e_conv1.depth_conv.bias, e_conv7.point_conv.weight;" in message
    assert "unexpected: e_conv8.bias;" in message
    assert "of another shape: e_conv3.depth_conv.weight (expected [32, 1, 3, 3], received [1, 32, 3, 3]);" in message
    assert message.endswith("not finite numbers: e_conv4.depth_conv.bias, e_conv5.depth_conv.bias.")
    assert "\n" not in message
    assert all(np.array_equal(a, b) for a, b in zip(before, network.get_weights(), strict=True))


def test_unknown_network_is_refused_with_the_nearest_name(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'zero_dce'"):
        torch_import.import_weights("zero_dc", tmp_path / "absent.pth")
