"""Every network of the table is exported, or says why not. A newcomer needs one row here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfllv import models
from tfllv.export import litert, onnx, product, saved_model, signatures, verify

# Options that make a network small enough to be exported in seconds; by default it has the same layers, only more.
ROWS: dict[str, dict[str, Any]] = {
    "mirnet": {"n_feat": 24, "n_RRG": 1, "n_MSRB": 1},
    "mirnet_small": {},
    "pix2pix": {"n_feat": 4, "depth": 3},
    "resnet_unet": {"num_classes": 4, "width": 1, "statistics": "moving"},
    "sgz": {},
    "zero_dce": {},
    "zero_dce_pp": {},
}


@pytest.fixture
def load(tmp_path):
    def make(name, **options):
        weights = models.shipped_weights(name)
        if weights is None:
            weights = tmp_path / f"{name}.weights.h5"
            models.build(name, **ROWS[name]).save_weights(weights)
        return product.load(name, weights=weights, **ROWS[name], **options)

    return make


def test_every_network_has_a_row_or_a_reason():
    assert set(ROWS) | set(product.NOT_EXPORTED) == set(models.MODELS)
    assert not set(ROWS) & set(product.NOT_EXPORTED)


@pytest.mark.parametrize("name", [pytest.param("pix2pix", marks=pytest.mark.slow), "zero_dce"])
def test_a_networks_graph_gives_what_the_network_gives(load, name):
    what = load(name)
    module = signatures.Signatures(what.step, what.owner, max_pixels=what.max_pixels)
    for crop in verify.crops():
        found = module.floats(tf.constant(crop[None]))
        pairs = [(found[key].numpy()[0], expected) for key, expected in what.reference(crop).items() if key in found]
        verify.compare_all(name, pairs, "float32")
    assert what.max_pixels == (signatures.MAX_PIXELS if name == "zero_dce" else signatures.MAX_PIXELS_WHOLE)


def test_an_enhancing_unet_is_exported_with_the_surroundings_that_its_enhancer_gives(tmp_path):
    options = {**ROWS["resnet_unet"], "tasks": "enhancement"}
    weights = tmp_path / "one.weights.h5"
    models.build("resnet_unet", **options).save_weights(weights)
    what = product.load("resnet_unet", weights=weights, **options)
    crop = verify.crops()[0]
    found = what.step(tf.constant(crop[None]))["image"].numpy()[0]
    np.testing.assert_allclose(found, what.reference(crop)["image"], atol=1e-5)
    assert found.shape == crop.shape
    assert np.abs(found - np.clip(what.model(crop[None])["image"][0], 0, 1)).max() > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_network_is_exported_as_a_saved_model(load, tmp_path, name, precision):
    version, agreement = saved_model.export(load(name, precision=precision), tmp_path / name)
    assert (version / "saved_model.pb").is_file()
    assert f"{name} `image`" in agreement and f"{name} `image_bytes`" in agreement


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_network_is_exported_for_litert(load, tmp_path, name):
    pytest.importorskip("ai_edge_litert")
    for precision in ("float32", "float16", "int8_dynamic"):
        assert litert.export(load(name), tmp_path, precision=precision)[0].is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_every_network_is_exported_as_onnx(load, tmp_path, name):
    for package in ("tf2onnx", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra `[onnx]`)")
    assert onnx.export(load(name), tmp_path)[0].is_file()
