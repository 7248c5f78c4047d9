"""The encoder of the multi-task network by itself, for other projects: a Keras file, a SavedModel, weights.

None of the files needs this package: batch normalisation is Keras' own, the picture's normalisation is a layer, and the
graph knows no size. A folder is `DIR/<version>/` with

    encoder.keras         architecture and weights, for `keras.saving.load_model`
    encoder.json          the architecture alone, for `keras.models.model_from_json`
    encoder.weights.h5    the weights alone, for `load_weights`, also into a `tfllv.models.resnet.ResNet50`
    saved_model/          a picture in, the five feature maps out; normalisation is folded into the convolutions
    tfllv.json            what it is
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfllv import contracts, models
from tfllv.export import saved_model, verify
from tfllv.models import encoder_weights, resnet
from tfllv.runner import networks

NETWORK = "resnet_unet"
SIGNATURE = "serving_default"


def load(weights: str | os.PathLike[str] | None, **options: Any) -> resnet.ResNet50:
    """Returns the encoder of a trained network, or one from elsewhere.

    Args:
      weights: a `.weights.h5` file of `resnet_unet`, or a `.pt`, `.pth` or `.h5` file, see
        `encoder_weights.load_encoder`.
      **options: those of `resnet_unet`, as it was trained with.

    Raises:
      ValueError: if there are no weights, or they do not fit.
      OSError: if they cannot be read.
    """
    if weights is None:
        raise ValueError("`encoder` needs --weights or --workdir: no weights are shipped. Received: neither.")
    path = os.fspath(weights)
    if path.endswith(encoder_weights.KERAS_SUFFIX):
        network = models.build(NETWORK, **options)
        networks.load_weights(network, NETWORK, path)
        return network.backbone
    return models.build(NETWORK, **options, weights=path).backbone


def export(backbone: resnet.ResNet50, folder: str | os.PathLike[str]) -> tuple[pathlib.Path, str]:
    """Writes an encoder as the next version in `folder`.

    Args:
      backbone: the encoder.
      folder: made where it is absent.

    Returns:
      The folder of the new version, and how well its files agree with the encoder, in words.

    Raises:
      verify.MismatchError: if a written file does not give what the encoder gives; nothing is left then.
      OSError: if it cannot be written; nothing is left then.
    """
    root = pathlib.Path(folder)
    plain = encoder_weights.make_plain(backbone)
    with saved_model.writing(root) as temporary:
        temporary.mkdir()
        plain.save(temporary / "encoder.keras")
        plain.save_weights(temporary / "encoder.weights.h5")
        (temporary / "encoder.json").write_text(plain.to_json(), encoding="utf-8")
        _save_graph(encoder_weights.make_folded(backbone), temporary / "saved_model")
        (temporary / "tfllv.json").write_text(json.dumps(_facts(backbone), indent=2) + "\n", encoding="utf-8")
        agreement = check(backbone, temporary)
        return saved_model.publish(temporary, root), agreement


def check(backbone: resnet.ResNet50, folder: pathlib.Path) -> str:
    """Compares all files of a folder with the encoder on photographs; the SavedModel runs in a fresh process.

    Raises:
      verify.MismatchError: if one does not agree.
    """
    crops = verify.crops()
    expected = [{name: np.asarray(value) for name, value in backbone(crop[None]).items()} for crop in crops]
    call = {"kind": "saved_model", "path": folder / "saved_model", "signature": SIGNATURE}
    (served,) = verify.run_fresh([{**call, "inputs": [crop[None] for crop in crops]}])
    from_weights = keras.models.model_from_json((folder / "encoder.json").read_text(encoding="utf-8"))
    from_weights.load_weights(folder / "encoder.weights.h5")
    models_read = {
        "encoder.keras": keras.saving.load_model(folder / "encoder.keras"),
        "encoder.weights.h5": from_weights,
    }
    sides = {"saved_model": served}
    for name, model in models_read.items():
        sides[name] = [{key: np.asarray(value) for key, value in model(crop[None]).items()} for crop in crops]
    worst = []
    for name, found in sides.items():
        for stage in resnet.STAGES:
            pairs = [(one[stage], truth[stage]) for one, truth in zip(found, expected, strict=True)]
            worst.append(verify.compare_all(f"encoder {name} `{stage}`", pairs, "float32"))
    return worst[len(resnet.STAGES) - 1]


def _save_graph(net: keras.Model, folder: pathlib.Path) -> None:
    module = tf.Module()
    module.weights = [variable.value for variable in net.variables]
    images = tf.TensorSpec([None, None, None, 3], tf.float32, name=contracts.IMAGE)
    function = tf.function(lambda image: dict(net(image, training=False)), input_signature=[images])
    tf.saved_model.save(module, str(folder), signatures={SIGNATURE: function})


def _facts(backbone: resnet.ResNet50) -> dict[str, Any]:
    options = backbone.get_config()
    return {
        "name": "encoder",
        "network": "ResNet-50",
        "input": "float32 [B, H, W, 3], RGB in [0, 1], any H and W; it is normalised inside",
        "variant": options["variant"],
        "normalization": options["normalization"],
        "maps": {name: {"stride": resnet.STAGES[name], "channels": resnet.CHANNELS[name]} for name in resnet.STAGES},
        "parameters": backbone.count_params(),
    }
