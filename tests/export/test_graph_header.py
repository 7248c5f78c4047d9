from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tfllv.export import graph_header, graph_pixels
from tfllv.inputs import image_files

LIMIT = 3_000_000


@pytest.fixture(scope="module")
def decode():
    """A traced function, file -> pixels and alpha as 16 bits, orientation; what `serving_bytes` does first."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def run(data):
        data, header = graph_header.read_header(data, LIMIT)

        def pixels(dtype):
            return tuple(tf.cast(part, tf.uint16) for part in graph_pixels.decode(data, header, dtype))

        return *tf.cond(header.deep, lambda: pixels(tf.uint16), lambda: pixels(tf.uint8)), header.orientation

    run.get_concrete_function()
    return run


def test_pixels_are_those_that_the_command_line_reads(decode, encoded):
    for name, data in encoded.good().items():
        expected = image_files.read_image(data)
        pixels, alpha, orientation = (value.numpy() for value in decode(tf.constant(data)))
        assert orientation == expected.header.orientation, name
        assert pixels.shape == expected.pixels.shape, name
        assert np.abs(pixels.astype(int) - expected.pixels).max() <= 1, name
        assert (alpha.shape[2] == 1) == (expected.alpha is not None), name
        if expected.alpha is not None:
            np.testing.assert_array_equal(alpha[..., 0], expected.alpha, name)


def test_all_eight_turns_differ(encoded, decode):
    found = [decode(tf.constant(encoded.good()[f"turned_{number}"]))[0].numpy() for number in range(1, 9)]
    assert len({array.tobytes() for array in found}) == 8


def test_bad_files_are_refused_by_their_headers_in_one_clear_line(decode, encoded):
    for name, (data, words) in encoded.bad().items():
        with pytest.raises(tf.errors.InvalidArgumentError, match=words) as error:
            decode(tf.constant(data))
        assert "image_bytes: " in error.value.message or "Invalid" in words, name


def test_a_bomb_costs_no_memory(decode, encoded):
    reset = pathlib.Path("/proc/self/clear_refs")
    if not os.access(reset, os.W_OK):
        pytest.skip("the peak of this process's memory cannot be reset here")
    for name, (data, _) in encoded.bad().items():
        tensor = tf.constant(data)
        reset.write_text("5")
        before = _peak_kb()
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(tensor)
        assert _peak_kb() - before < 20_000, name


def _peak_kb():
    text = pathlib.Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0])
