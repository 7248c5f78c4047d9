"""The inference graph of the curve networks equals the Keras model, in strips, in bfloat16 and over video frames."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfllv import models
from tfllv.runner import networks

NETWORKS = [("sgz", 1), ("sgz", 12), ("sgz", 5), ("zero_dce", 1), ("zero_dce_pp", 4)]


@pytest.fixture(scope="module")
def model():
    made = {}

    def get(name, scale):
        if (name, scale) not in made:
            made[name, scale] = models.build(name, **({} if name == "zero_dce" else {"scale_factor": scale}))
        return made[name, scale]

    return get


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
@pytest.mark.parametrize("strip_pixels", [60_000, 1_000, 300, 1])
def test_the_graph_equals_the_model_at_any_strip(name, scale, strip_pixels, model, rng):
    images = tf.constant(rng.random((2, 75, 41, 3), dtype=np.float32))
    network = model(name, scale)
    graph = networks.CurveGraph(network)
    expected = np.clip(network(images)["image"], 0, 1)
    # 1e-6: the sums are taken in another order, so float32 rounding differs; eight iterations amplify it.
    np.testing.assert_allclose(graph.enhance(images, strip_pixels), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_map_then_bend_equals_enhance(name, scale, model, rng):
    images = rng.random((2, 50, 41, 3), dtype=np.float32)
    graph = networks.CurveGraph(model(name, scale))
    curve = graph.curve_map(images, 500)
    assert curve.shape[1:3] == (-(-50 // scale), -(-41 // scale))
    expected = graph.enhance(tf.constant(images))
    np.testing.assert_allclose(graph.bend(images, curve), expected, atol=1e-6)
    np.testing.assert_allclose(graph.enhance_array(images, 500), expected, atol=1e-6)


def test_arrays_of_whole_levels_are_at_most_one_level_from_the_graph(model, rng):
    graph = networks.CurveGraph(model("sgz", 12))
    for dtype in (np.uint8, np.uint16):
        images = (rng.random((2, 75, 41, 3)) * np.iinfo(dtype).max).astype(dtype)
        made, expected = graph.enhance_array(images), graph.enhance(tf.constant(images)).numpy()
        assert made.dtype == dtype
        apart = np.abs(made.astype(int) - expected)
        assert apart.max() <= 1
        # Only where the sixth digit decides which way a value is rounded.
        assert (apart > 0).mean() < (1e-3 if dtype == np.uint8 else 1e-1)


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_bfloat16_stays_fifty_decibels_from_float32(name, scale, model, rng):
    images = tf.constant(rng.random((1, 64, 64, 3), dtype=np.float32))
    graphs = [networks.CurveGraph(model(name, scale), precision=kind) for kind in ("float32", "bfloat16")]
    exact, rounded = (graph.enhance(images).numpy() for graph in graphs)
    error = float(np.mean((exact - rounded) ** 2))
    assert error > 0, "bfloat16 gave float32's result to the last bit: it was not used"
    assert -10 * np.log10(error) >= 50


def test_uint8_and_uint16_are_rounded_inside_the_graph(model, rng):
    graph = networks.CurveGraph(model("sgz", 12))
    image = rng.integers(0, 80, (1, 40, 40, 3)).astype(np.uint8)
    exact = graph.enhance(tf.constant(image / np.float32(255))).numpy()
    assert np.abs(graph.enhance(tf.constant(image)).numpy() - exact * 255).max() <= 0.501
    wide = image.astype(np.uint16) * 257
    assert np.abs(graph.enhance(tf.constant(wide)).numpy() - exact * 65535).max() <= 1.01


def test_the_signature_saves_and_loads_as_a_saved_model(model, rng, tmp_path):
    graph = networks.CurveGraph(model("sgz", 5))
    tf.saved_model.save(graph, str(tmp_path / "model"), signatures=graph.signature("enhance", tf.float32))
    loaded = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    images = tf.constant(rng.random((2, 31, 22, 3), dtype=np.float32))
    (result,) = loaded(images=images, strip_pixels=tf.constant(200)).values()
    np.testing.assert_allclose(result, graph.enhance(images), atol=1e-6)


def test_a_stream_smooths_the_curve_map(rng, monkeypatch):
    enhancer = networks.curve_enhancer("sgz", scale_factor=4)
    scene = rng.random((48, 48, 3)) * 0.4
    flickering = [np.uint8(255 * scene * gain) for gain in (0.5, 0.55) * 6]
    bend, means = enhancer.graph.bend, []

    def record(images, curve):
        means.append(float(curve.mean()))
        return bend(images, curve)

    monkeypatch.setattr(enhancer.graph, "bend", record)
    for smoothing in (0.0, 0.9):
        stream = enhancer.stream(smoothing=smoothing)
        for frame in flickering:
            stream(frame)
    alone, smooth = np.abs(np.diff(means[:12])), np.abs(np.diff(means[12:]))
    assert smooth.mean() < 0.2 * alone.mean()


def test_a_stream_starts_afresh_at_a_cut_and_at_another_size(rng):
    enhancer = networks.curve_enhancer("sgz", scale_factor=4)
    dark, bright = np.uint8(20 * rng.random((48, 48, 3))), np.full((48, 48, 3), 250, np.uint8)
    stream = enhancer.stream(smoothing=0.9)
    assert np.array_equal(stream(dark), enhancer(dark))
    assert np.array_equal(stream(bright), enhancer(bright))
    assert np.array_equal(stream(bright[:24]), enhancer(bright[:24]))
    with pytest.raises(ValueError, match="`smoothing` must be"):
        enhancer.stream(smoothing=1.0)


def test_wrong_options_are_one_line(tmp_path):
    with pytest.raises(ValueError, match="`precision` must be one of"):
        networks.curve_enhancer("sgz", precision="float8")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        networks.curve_enhancer("sgz", weights=str(tmp_path / "none.weights.h5"))
    broken = tmp_path / "broken.weights.h5"
    broken.write_bytes(b"not a file of weights")
    with pytest.raises(ValueError, match="`weights` must fit 'sgz'"):
        networks.curve_enhancer("sgz", weights=str(broken))
    with pytest.raises(ValueError, match="import-weights"):
        networks.curve_enhancer("sgz", weights=str(tmp_path / "x.pth"))
