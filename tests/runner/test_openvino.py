"""The curve networks on OpenVINO equal the Keras models, at any size and strip."""

from __future__ import annotations

import ctypes
import functools
import sys
from concurrent import futures

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("openvino", reason="openvino is not installed (extra `[openvino]`)")

from tfllv import enhancers, models
from tfllv.runner import openvino

NETWORKS = [("sgz", 1), ("sgz", 12), ("zero_dce", 1), ("zero_dce_pp", 4)]


@functools.cache
def graphs(name, scale):
    """The Keras model as a function of a picture, [0, 1], and the graphs on OpenVINO in float32 and bfloat16."""
    model = models.build(name, **({} if name == "zero_dce" else {"scale_factor": scale}))
    made = [openvino.OpenVinoGraph(model, precision=kind) for kind in ("float32", "bfloat16")]
    return lambda images: np.clip(model(images)["image"], 0, 1), *made


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
@pytest.mark.parametrize("size", [(75, 41), (310, 201), (1, 1)])
def test_float32_equals_the_model(name, scale, size, rng):
    expected, graph, _ = graphs(name, scale)
    images = tf.constant(rng.random((2, *size, 3), dtype=np.float32))
    np.testing.assert_allclose(graph.enhance(images), expected(images), atol=1e-5)


@pytest.mark.parametrize(("name", "channels"), [("sgz", 3), ("zero_dce", 24)])
def test_map_then_bend_equals_enhance(name, channels, rng):
    graph = graphs(name, 1)[1]
    images = rng.random((2, 50, 41, 3), dtype=np.float32)
    curve = graph.curve_map(images, 500)
    assert curve.shape == (2, 50, 41, channels)
    np.testing.assert_allclose(graph.bend(images, curve), graph.enhance_array(images), atol=1e-5)


@pytest.mark.parametrize("strip_pixels", [60_000, 1_000, 300, 1])
def test_strips_equal_the_whole(strip_pixels, rng):
    expected, graph, _ = graphs("sgz", 1)
    images = rng.random((2, 75, 41, 3), dtype=np.float32)
    np.testing.assert_allclose(graph.enhance_array(images, strip_pixels), expected(images), atol=1e-6)


@pytest.mark.parametrize("height", [1, 14, 15, 16, 17, 29, 30, 400, 401])
@pytest.mark.parametrize("strip_pixels", [1, 40, 1_000])
def test_strips_cover_each_row_once_with_its_surroundings(height, strip_pixels):
    halo = 7
    jobs = openvino.plan_strips(height, 10, halo=halo, strip_pixels=strip_pixels)
    assert [row for *_, top, bottom in jobs for row in range(top, bottom)] == list(range(height))
    assert len({last - first for first, last, *_ in jobs}) == 1, "strips of several shapes"
    for first, last, top, bottom in jobs:
        assert 0 <= first <= max(0, top - halo) and min(height, bottom + halo) <= last <= height


def test_strips_of_a_wide_picture_are_not_mostly_surroundings():
    def heights(strip_pixels):
        plan = openvino.plan_strips(400, 6000, halo=7, strip_pixels=strip_pixels)
        return {bottom - top for *_, top, bottom in plan}

    assert min(heights(openvino.STRIP_PIXELS)) >= 24 and max(heights(openvino.STRIP_PIXELS)) < 40
    assert max(heights(12_000)) < 10


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_bfloat16_stays_fifty_decibels_from_float32(name, scale, rng):
    expected, _, graph = graphs(name, scale)
    images = rng.random((1, 64, 64, 3), dtype=np.float32)
    error = float(np.mean((graph.enhance_array(images) - expected(images)) ** 2))
    assert -10 * np.log10(error + 1e-20) >= 50


def test_without_bfloat16_instructions_float32_is_used(monkeypatch, rng):
    exact = graphs("sgz", 1)[1]
    monkeypatch.setattr(openvino.ov.Core, "get_property", lambda *_: ["FP32"])
    images = rng.random((1, 31, 22, 3), dtype=np.float32)
    graph = openvino.OpenVinoGraph(models.build("sgz", scale_factor=1), precision="bfloat16")
    assert np.array_equal(graph.enhance_array(images), exact.enhance_array(images))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize(("name", "scale"), [("sgz", 1), ("sgz", 12), ("zero_dce", 1)])
def test_whole_numbers_are_rounded_in_the_graph(name, scale, kind, rng):
    expected, *both = graphs(name, scale)
    most = np.iinfo(kind).max
    images = rng.integers(0, most + 1, (1, 50, 41, 3), kind)
    # One level for sums in another order; bfloat16's are 50 dB, a root mean square of 0.3 %, away and 2 % at most.
    for graph, levels in zip(both, (1, 1 + 0.02 * most), strict=True):
        result = graph.enhance_array(images)
        assert result.dtype == kind
        exact = expected(np.float32(images / most)) * most
        assert np.abs(result - exact).max() <= levels


def test_plain_convolutions_run_too(rng):
    model = models.build("sgz", scale_factor=1, conv_type="tc")
    images = rng.random((1, 30, 20, 3), dtype=np.float32)
    np.testing.assert_allclose(openvino.OpenVinoGraph(model).enhance_array(images), model(images)["image"], atol=1e-5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sigaltstack is Linux's here")
def test_the_thread_keeps_its_stack_for_signals(rng):
    def stack():
        found = openvino.SignalStack()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
        return found.ss_sp, found.ss_flags, found.ss_size

    def run():
        before = stack()
        graph = openvino.OpenVinoGraph(models.build("sgz", scale_factor=1))
        graph.enhance_array(rng.random((1, 33, 27, 3), dtype=np.float32))
        return before, stack()

    for before, after in (run(), futures.ThreadPoolExecutor(1).submit(run).result()):
        assert before == after
    with openvino.kept_signal_stack():
        memory = ctypes.create_string_buffer(1 << 16)
        other = openvino.SignalStack(ctypes.addressof(memory), 0, 1 << 16)
        before = stack()
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(other), None) == 0 and stack() != before
    assert stack() == before


def test_several_threads_may_call_one_enhancer(rng):
    enhancer = enhancers.get("sgz", scale_factor=1, runtime="openvino")
    photos = [rng.integers(0, 90, (40 + number, 31, 3)).astype(np.uint8) for number in range(12)]
    alone = [enhancer.tiled(photo) for photo in photos]
    with futures.ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda photo: enhancer.tiled(photo, 16), photos))
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1


def test_a_stream_runs(rng):
    enhancer = enhancers.get("sgz", scale_factor=1, runtime="openvino")
    frame = rng.integers(0, 90, (24, 31, 3)).astype(np.uint8)
    assert np.abs(enhancer.stream()(frame).astype(int) - enhancer(frame)).max() <= 1


def test_errors_are_one_line(monkeypatch):
    with pytest.raises(ValueError, match="must be tensorflow but for sgz, zero_dce, zero_dce_pp"):
        enhancers.get("mirnet", runtime="openvino")
    with pytest.raises(ValueError, match="`runtime` must be one of tensorflow, openvino"):
        enhancers.get("sgz", runtime="onnx")
    with pytest.raises(ValueError, match="`precision` must be one of"):
        enhancers.get("sgz", runtime="openvino", precision="float8")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'tfllv\[openvino\]'"):
        enhancers.get("sgz", runtime="openvino")
