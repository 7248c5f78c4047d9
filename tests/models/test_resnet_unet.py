from __future__ import annotations

import keras
import numpy as np
import pytest

from tfllv import models
from tfllv.models import resnet, resnet_unet


@pytest.fixture(scope="module")
def network():
    return resnet_unet.ResNetUNet(num_classes=5, width=2)


def trainable(network):
    return sum(int(np.prod(variable.shape)) for variable in network.trainable_variables)


def picture(size=(33, 45), batch=1, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (batch, *size, 3)).astype(np.float32)


def test_default_network_has_the_stated_parameters():
    assert trainable(resnet_unet.ResNetUNet()) == 32_588_644
    assert f"{32_643_946:,} parameters" in models.MODELS["resnet_unet"].summary


@pytest.mark.parametrize("shared", [0, 2, 5])
def test_each_task_has_six_blocks_of_which_so_many_are_shared(shared):
    network = resnet_unet.ResNetUNet(num_classes=5, width=2, shared_blocks=shared)
    blocks = {layer.name.rsplit("_", 1)[0] for layer in network.layers if "_block" in layer.name}
    kinds = {kind: sorted(name[-1] for name in blocks if name.startswith(kind)) for kind in ("shared", "image", "logi")}
    own = [str(number) for number in range(shared + 1, 6)]
    assert kinds == {"shared": [str(number) for number in range(1, shared + 1)], "image": own, "logi": own}
    heads = {layer.name for layer in network.layers if layer.name.endswith("_head")}
    assert heads == {"image_head", "logits_head"}
    assert {key: value.shape for key, value in network(picture()).items()} == {
        "image": (1, 33, 45, 3),
        "logits": (1, 33, 45, 5),
    }


def test_a_single_task_is_the_same_network_without_the_other_branch(network):
    alone = {
        task: resnet_unet.ResNetUNet(num_classes=5, width=2, tasks=task) for task in ("enhancement", "segmentation")
    }
    low, both = picture(), network(picture())
    assert list(alone["enhancement"](low)) == ["image"] and list(alone["segmentation"](low)) == ["logits"]
    for single in alone.values():
        for key, value in single(low).items():
            np.testing.assert_array_equal(value, both[key])
    own = [single.count_params() for single in alone.values()]
    shared = {variable.path for variable in alone["enhancement"].variables}
    shared &= {variable.path for variable in alone["segmentation"].variables}
    common = sum(int(np.prod(v.shape)) for v in alone["enhancement"].variables if v.path in shared)
    assert sum(own) - common == network.count_params()


def test_every_variable_gets_a_gradient_with_the_statistics_of_a_batch():
    import tensorflow as tf

    network = resnet_unet.ResNetUNet(num_classes=5, width=2)  # one of its own: its moving statistics change
    with tf.GradientTape() as tape:
        outputs = network(picture((64, 96), batch=2), training=True)
        # Not the plain square of the logits: normalisation fixes what that is for most weights.
        loss = sum(tf.reduce_sum(tf.square(value - picture((64, 96), 2, 1)[..., :1])) for value in outputs.values())
    gradients = tape.gradient(loss, [variable.value for variable in network.trainable_variables])
    for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
        assert gradient is not None and np.isfinite(gradient).all() and np.abs(gradient).max() > 0, variable.path


def test_the_encoder_is_frozen_by_stage(network):
    every = len(network.trainable_variables)
    frozen = resnet_unet.ResNetUNet(num_classes=5, width=2, frozen_stages=3)
    # 3 tensors a convolution and its normalisation, of which the first three stages have 1, 10 and 13.
    assert every - len(frozen.trainable_variables) == 3 * (1 + 10 + 13)
    assert frozen.get_config()["frozen_stages"] == 3
    assert {v.path.split("/")[0] for v in network.variables} == {v.path.split("/")[0] for v in frozen.variables}


def test_odd_sides_are_doubled_and_cut_to_the_finer_map():
    coarse = np.arange(6, dtype=np.float32).reshape(1, 2, 3, 1)
    joined = resnet_unet.DoubleAndJoin()([coarse, np.ones((1, 3, 5, 2), np.float32)])
    want = [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    np.testing.assert_array_equal(joined[0, ..., 0], want)
    np.testing.assert_array_equal(joined[0, ..., 1:], 1)


def test_half_precision_keeps_results_and_picture_in_float32(network):
    half = resnet_unet.ResNetUNet(num_classes=5, width=2, dtype="mixed_bfloat16")
    assert half.backbone.get_layer("conv1").compute_dtype == "bfloat16"
    for key, value in half(picture()).items():
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        assert np.abs(np.asarray(value) - np.asarray(network(picture())[key])).max() < 0.05


def test_encoder_is_normalised_as_its_weights_expect(network):
    assert network.backbone.get_config()["normalization"] == "torchvision"
    other = resnet_unet.ResNetUNet(num_classes=5, width=2, variant="v1")
    assert other.backbone.get_config()["normalization"] == "keras"
    assert other.get_config()["variant"] == "v1"


def test_training_on_other_statistics_is_passed_on():
    moving = resnet_unet.ResNetUNet(num_classes=5, width=2, statistics="moving", synchronized=True)
    norms = [layer for layer in moving._flatten_layers() if isinstance(layer, resnet.BatchNorm)]
    assert len(norms) == 53 + 1 + 2 * (3 + 2 + 2)
    assert all(norm.statistics == "moving" and norm.synchronized for norm in norms)
    np.testing.assert_array_equal(moving(picture(), training=True)["image"], moving(picture())["image"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 0}, "`num_classes` must be a whole number from 1 to 255"),
        ({"width": 2.5}, "`width` must be a whole number from 1"),
        ({"shared_blocks": 6}, "`shared_blocks` must be a whole number from 0 to 5"),
        ({"tasks": "segment"}, "did you mean 'segmentation'"),
        ({"weights": "resnet.zip"}, "`weights` must be none, imagenet, or a file that ends with"),
        ({"statistics": "mean"}, "`statistics` must be one of"),
        ({"frozen_stages": 6}, "`stages` must be an integer from 0 to 5"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        resnet_unet.ResNetUNet(**options)
