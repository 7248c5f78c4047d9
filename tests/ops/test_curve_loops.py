"""The curve networks' compiled loops give what the Keras model's methods give, for every type, size and scale."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tfllv import models
from tfllv.models import mirnet_small
from tfllv.ops import curve_loops

SIZES = [(1, 1), (1, 30), (30, 1), (12, 12), (75, 41), (300, 420)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 5, 12])
def test_sample_takes_the_network_s_samples(size, scale, rng):
    images = rng.random((2, *size, 3), dtype=np.float32)
    network = models.build("sgz", scale_factor=scale)
    np.testing.assert_allclose(curve_loops.sample(images, scale), network.shrink(images), rtol=0, atol=1e-7)
    levels = np.uint8(images * 255)
    np.testing.assert_allclose(
        curve_loops.sample(levels, scale), network.shrink(levels / np.float32(255)), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "scale"), [("sgz", 2), ("sgz", 12), ("zero_dce_pp", 5)])
def test_bend_enlarges_and_applies_the_curve(size, name, scale, rng):
    images = rng.random((2, *size, 3), dtype=np.float32)
    small = [-(-side // scale) for side in size]
    curve = rng.uniform(-1, 1, (2, *small, 3)).astype(np.float32)
    network = models.build(name, scale_factor=scale)
    expected = np.asarray(network.apply_curve(images, network.enlarge(curve, *size)))
    # Eight iterations amplify the rounding of the interpolation.
    np.testing.assert_allclose(curve_loops.bend(images, curve, scale), np.clip(expected, 0, 1), rtol=0, atol=5e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [1, 3, 8])
def test_average_is_the_mean_of_squares(size, factor, rng):
    images = rng.random((2, *size, 3), dtype=np.float32)
    network = models.build("mirnet_small", n_feat=8, height=2)
    np.testing.assert_allclose(curve_loops.average(images, factor), network.shrink(images, factor), rtol=0, atol=1e-6)
    levels = np.uint16(images * 65535)
    expected = network.shrink(levels / np.float32(65535), factor)
    np.testing.assert_allclose(curve_loops.average(levels, factor), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])
def test_bend_tones_enlarges_and_applies_the_curves(size, dtype, rng):
    network = models.build("mirnet_small", n_feat=8, height=2, knots=5, work_size=16)
    images = rng.random((2, *size, 3), dtype=np.float32)
    images[0, 0, 0] = 0
    images = images if dtype == np.float32 else (images * np.iinfo(dtype).max).astype(dtype)
    floats = images / np.float32(1 if dtype == np.float32 else np.iinfo(dtype).max)
    factor = network.factor(*size)
    exponent = np.float32([0.3, 1.0]).reshape(2, 1, 1, 1)
    small = network.shrink(floats, factor)
    shape = network.curve_map(small, exponent).shape
    curve = rng.uniform(-0.4, 0.4, shape).astype(np.float32)
    enlarged = network.enlarge(curve, factor, *size)
    expected = np.clip(np.asarray(network.apply_curve(floats, exponent, enlarged)), 0, 1)
    made = curve_loops.bend_tones(images, exponent, curve, 4 * factor, darkest=mirnet_small.DARKEST)
    assert made.dtype == dtype
    if dtype == np.float32:
        np.testing.assert_allclose(made, expected, rtol=0, atol=3e-6)
    else:
        top = np.iinfo(dtype).max
        assert np.abs(made - expected * np.float64(top)).max() <= 0.5 + 3e-6 * top


def test_a_map_of_its_own_for_each_iteration_is_applied_in_order(rng):
    images = rng.random((1, 40, 50, 3), dtype=np.float32)
    curve = rng.uniform(-1, 1, (1, 10, 13, 24)).astype(np.float32)
    expected = images
    # Between knots that are one colour each, the map is constant.
    curve[...] = curve[:, :1, :1]
    for step in np.split(curve[:, :1, :1], 8, axis=-1):
        expected = expected + step * (expected**2 - expected)
    np.testing.assert_allclose(curve_loops.bend(images, curve, 4), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_whole_levels_are_rounded_half_up_and_keep_their_ends(dtype, rng):
    top = np.iinfo(dtype).max
    images = (rng.random((1, 60, 70, 3)) * top).astype(dtype)
    images[0, 0, 0], images[0, 0, 1] = 0, top
    curve = rng.uniform(-1, 1, (1, 15, 18, 3)).astype(np.float32)
    made = curve_loops.bend(images, curve, 4)
    exact = curve_loops.bend(images.astype(np.float32) / np.float32(top), curve, 4).astype(np.float64) * top
    assert made.dtype == dtype
    assert np.abs(made - exact).max() <= 0.5 + (0.01 if dtype == np.uint8 else 0.2)
    assert (made[0, 0, 0] == 0).all()
    assert (made[0, 0, 1] == top).all()
    unchanged = curve_loops.bend(images, np.zeros_like(curve), 4)
    assert np.array_equal(unchanged, images)


def test_a_picture_that_is_not_contiguous_is_bent_as_its_copy(rng):
    images = rng.integers(0, 255, (1, 80, 90, 3)).astype(np.uint8)[:, ::2, ::3]
    curve = rng.uniform(-1, 1, (1, 10, 8, 3)).astype(np.float32)
    assert np.array_equal(curve_loops.bend(images, curve, 4), curve_loops.bend(images.copy(), curve, 4))


def test_very_wide_pictures_are_bent_in_parts(rng, monkeypatch):
    images = rng.integers(0, 255, (2, 9, 70, 3)).astype(np.uint8)
    curve = rng.uniform(-1, 1, (2, 3, 18, 3)).astype(np.float32)
    tones = rng.uniform(-0.4, 0.4, (2, 3, 18, 15)).astype(np.float32)
    exponent = np.float32([0.5, 1]).reshape(2, 1, 1, 1)
    whole = [curve_loops.bend(images, curve, 4), curve_loops.bend_tones(images, exponent, tones, 4, darkest=1e-4)]
    monkeypatch.setattr(curve_loops, "_WIDEST", 16)
    parts = [curve_loops.bend(images, curve, 4), curve_loops.bend_tones(images, exponent, tones, 4, darkest=1e-4)]
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("value", [1e38, -1e38, np.inf, -np.inf, np.nan, 1.5, -0.5])
def test_values_that_no_picture_has_do_no_harm(value, rng):
    images = np.full((1, 2, 70_000, 3), value, np.float32)
    curve = rng.uniform(-0.4, 0.4, (1, 1, 8, 15)).astype(np.float32)
    made = curve_loops.bend_tones(images, np.ones((1, 1, 1, 1), np.float32), curve, 10_000, darkest=1e-4)
    assert ((made >= 0) & (made <= 1)).all()
    bent = curve_loops.bend(images, np.full((1, 1, 5834, 3), -0.3, np.float32), 12)
    assert bent.shape == images.shape and ((bent >= 0) & (bent <= 1) | np.isnan(bent)).all()


def test_other_types_are_one_clear_error():
    for call in (
        lambda x: curve_loops.bend(x, np.zeros((1, 2, 2, 3), np.float32), 4),
        lambda x: curve_loops.average(x, 2),
    ):
        with pytest.raises(
            ValueError, match=r"`images` must be uint8, uint16, or float32 in \[0, 1\]\. Received: dtype=float64"
        ):
            call(np.zeros((1, 8, 8, 3)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_threads_of_its_own(tmp_path):
    script = """
import os, sys, threading, numpy as np
from tfllv.ops import curve_loops
images = np.full((1, 600, 400, 3), 40, np.uint8)
curve = np.full((1, 150, 100, 3), -0.3, np.float32)
before = curve_loops.bend(images, curve, 4)
child = os.fork()
if not child:
    os._exit(0 if np.array_equal(curve_loops.bend(images, curve, 4), before) else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
