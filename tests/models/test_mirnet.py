from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfllv import models
from tfllv.models import mirnet, mirnet_blocks, torch_import

# float32: the outputs are of the order of 1, and sums run in another order than in PyTorch.
TOLERANCE = 1e-4
TINY = {"n_feat": 8, "n_RRG": 1, "n_MSRB": 1}


@pytest.fixture(scope="module")
def golden(goldens):
    """Inputs, outputs and state dicts of the authors' blocks, features turned to [B, H, W, C]."""
    with np.load(goldens / "mirnet_blocks_io.npz") as file:
        return {key: file[key] for key in file.files}


def block_of(golden, name):
    """Returns (state, x, y) of one block."""
    prefix = f"{name}/sd/"
    state = {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}
    return state, np.moveaxis(golden[f"{name}/x"], -3, -1), np.moveaxis(golden[f"{name}/y"], -3, -1)


def fill(entries, state):
    """Puts a state dict in; every tensor of it must be named, and shared ones must agree."""
    assert set(entries) == set(state)
    seen = {}
    for name, entry in entries.items():
        if isinstance(entry, torch_import.Constant):
            np.testing.assert_array_equal(entry.value, state[name])
            continue
        assert entry.torch_shape == state[name].shape
        before = seen.setdefault(id(entry.variable), state[name])
        np.testing.assert_array_equal(before, state[name])
        entry.variable.assign(state[name].transpose(entry.axes))


def make(name, seeds):
    act = mirnet_blocks.ScalarPReLU(name="act")
    blocks = {
        "SKFF16": (lambda: mirnet_blocks.SKFF(16, 3, seeds), torch_import.skff_tensors),
        "DAU16": (lambda: mirnet_blocks.DAU(16, act, seeds), torch_import.dau_tensors),
        "Down16": (lambda: mirnet_blocks.Halve(16, seeds), torch_import.halve_tensors),
        "Up32": (lambda: mirnet_blocks.Double(32, seeds), torch_import.double_tensors),
        "MSRB16": (lambda: mirnet_blocks.MSRB(16, act, seeds), torch_import.msrb_tensors),
    }
    build, tensors = blocks[name]
    block = build()
    block.build(None)
    return block, tensors(block)


@pytest.mark.parametrize("name", ["SKFF16", "DAU16", "Down16", "Up32", "MSRB16"])
def test_blocks_give_what_the_authors_give(golden, name):
    state, x, y = block_of(golden, name)
    block, entries = make(name, itertools.count())
    if name in ("Down16", "Up32"):
        state = {key.removeprefix("body.0."): value for key, value in state.items()}
    fill(entries, state)
    result = block(list(x) if name == "SKFF16" else x)
    assert result.shape == y.shape
    assert np.abs(result - y).max() <= TOLERANCE


def test_the_published_network_has_31_787_419_parameters():
    network = models.build("mirnet")
    assert network.count_params() == 31_787_419
    assert len({id(variable) for variable in network.variables}) == len(network.variables)
    entries = torch_import.mirnet_tensors(network)
    assert len(entries) == 797
    listed = sum(
        np.prod((entries[entry.of] if isinstance(entry, torch_import.Copy) else entry).torch_shape)
        for entry in entries.values()
        if not isinstance(entry, torch_import.Constant)
    )
    buffers = sum(entry.value.size for entry in entries.values() if isinstance(entry, torch_import.Constant))
    assert round((listed + buffers) / 1e6, 2) == 42.28  # values in the authors' state dict


def test_blocks_have_the_published_number_of_parameters():
    act, seeds = mirnet_blocks.ScalarPReLU(name="act"), itertools.count()
    for block, count in (
        (mirnet_blocks.DAU(64, act, seeds), 82_995),
        (mirnet_blocks.SKFF(64, 3, seeds), 2_049),
        (mirnet_blocks.Halve(64, seeds), 57_346),
        (mirnet_blocks.Double(128, seeds), 180_226),
        (mirnet_blocks.MSRB(64, act, seeds), 5_278_896),
        (mirnet_blocks.RRG(64, act, seeds), 10_594_655),
    ):
        block.build(None)
        assert block.count_params() == count, block.name


def test_shared_parts_are_one_module():
    network = models.build("mirnet", n_feat=8, n_RRG=2, n_MSRB=2)
    units = [unit for group in network.groups for block in group.blocks for unit in block.attention]
    assert len(units) == 2 * 2 * 3
    assert {id(unit.act) for unit in units} == {id(network.act)}


@pytest.mark.parametrize("size", [(4, 4), (6, 10), (1, 1), (1, 3), (2, 7), (5, 9)])
def test_sides_are_continued_by_reflection(rng, size):
    image = rng.uniform(0, 1, (2, *size, 3)).astype(np.float32)
    padded = mirnet.reflect_to_multiple(image, 4)
    added = [(-side) % 4 for side in size]
    expected = np.pad(image, ((0, 0), (0, added[0]), (0, added[1]), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(padded, expected)
    graph = tf.function(
        mirnet.reflect_to_multiple, input_signature=[tf.TensorSpec([None] * 3 + [3]), tf.TensorSpec([], tf.int32)]
    )
    np.testing.assert_array_equal(graph(image, 4), expected)


def test_an_odd_picture_is_the_padded_picture_cut_back(rng):
    network = models.build("mirnet", **TINY)
    image = rng.uniform(0, 1, (1, 9, 14, 3)).astype(np.float32)
    padded = np.pad(image, ((0, 0), (0, 3), (0, 2), (0, 0)), mode="reflect")
    expected = network(padded)["image"][:, :9, :14]
    np.testing.assert_allclose(network(image)["image"], expected, rtol=0, atol=1e-6)


def test_doubling_is_bilinear_with_centres_aligned(rng):
    x = rng.standard_normal((2, 5, 7, 3)).astype(np.float32)
    expected = tf.image.resize(x, (10, 14), "bilinear")
    np.testing.assert_allclose(mirnet_blocks.double(x), expected, rtol=0, atol=1e-6)


def test_blur_pool_keeps_a_flat_picture_and_reflects_the_border(rng):
    np.testing.assert_allclose(mirnet_blocks.blur_pool(np.full((1, 6, 4, 2), 0.7, np.float32)), 0.7, atol=1e-6)
    x = rng.standard_normal((1, 4, 6, 1)).astype(np.float32)
    padded = np.pad(x[0, ..., 0], 1, mode="reflect")
    taps = np.outer([1, 2, 1], [1, 2, 1]) / 16
    expected = [[(padded[i : i + 3, j : j + 3] * taps).sum() for j in (0, 2, 4)] for i in (0, 2)]
    np.testing.assert_allclose(mirnet_blocks.blur_pool(x)[0, ..., 0], expected, rtol=0, atol=1e-6)


def test_other_heights_and_widths_work(rng):
    network = models.build("mirnet", n_feat=8, n_RRG=1, n_MSRB=1, height=2, width=3)
    assert network.multiple == 2
    assert network(np.zeros((1, 3, 5, 3), np.float32))["image"].shape == (1, 3, 5, 3)


def test_the_last_layer_stays_float32_in_mixed_precision(rng):
    options = {**TINY, "seed": 3}
    mixed, full = models.build("mirnet", **options, dtype="mixed_bfloat16"), models.build("mirnet", **options)
    image = rng.uniform(0, 1, (1, 16, 16, 3)).astype(np.float32)
    output = mixed(image)["image"]
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert 0 < np.abs(output - full(image)["image"]).max() < 0.02  # bfloat16 has 8 bits


@pytest.mark.parametrize("option", [{"n_feat": 0}, {"height": 1}, {"width": 2.5}, {"n_RRG": True}])
def test_a_wrong_option_is_one_clear_error(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number >= "):
        models.build("mirnet", **option)


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="divide by its maximum"):
        models.build("mirnet", **TINY)(np.zeros((1, 4, 4, 3), np.uint8))


def tiny_state(rng, **options):
    """A random state dict in PyTorch's layout, shared modules and filters listed again."""
    entries = torch_import.mirnet_tensors(models.build("mirnet", **options))
    state = {}
    for name, entry in entries.items():
        if isinstance(entry, torch_import.Target):
            state[name] = rng.normal(0, 0.1, entry.torch_shape).astype(np.float32)
        else:
            state[name] = state[entry.of] if isinstance(entry, torch_import.Copy) else entry.value
    return state


def test_a_published_file_is_imported(tmp_path, torch_writer, rng):
    state = tiny_state(rng, **TINY)
    network = models.build("mirnet", **TINY)
    torch_import.import_weights("mirnet", torch_writer.write_state(tmp_path / "a.pth", state), network)
    block = network.groups[0].blocks[0]
    np.testing.assert_array_equal(network.act.slope, state["body.0.body.0.blocks.2.1.body.1.weight"])
    kernel = state["body.0.body.0.up.32_4.body.1.top.2.weight"]
    np.testing.assert_array_equal(np.asarray(block.up["2_0"].steps[1].conv2.kernel)[2, 0, 5, 9], kernel[9, 5, 2, 0])


def test_copies_may_be_absent_but_not_differ(tmp_path, torch_writer, rng):
    state = tiny_state(rng, **TINY)
    network = models.build("mirnet", **TINY)
    copy, blur = "body.0.body.0.blocks.1.1.conv1x1.weight", "body.0.body.0.down.8_2.body.0.bot.0.filt"
    less = {name: value for name, value in state.items() if name not in (copy, blur)}
    torch_import.import_weights("mirnet", torch_writer.write_state(tmp_path / "a.pth", less), network)
    for name in (copy, blur):
        wrong = {**state, name: state[name] + 1}
        with pytest.raises(ValueError, match=f"not equal to what they must be: {name}"):
            torch_import.import_weights("mirnet", torch_writer.write_state(tmp_path / "b.pth", wrong), network)
