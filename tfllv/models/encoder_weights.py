"""Weights for the ResNet-50 encoder from elsewhere: PyTorch state dicts, Keras Applications, or our own export.

A PyTorch file is read by `torch_file`, which executes nothing in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfllv.models import resnet
from tfllv.models.torch_file import read_state_dict

NONE, IMAGENET = "none", "imagenet"
KERAS_SUFFIX, TORCH_SUFFIXES, APPLICATIONS_SUFFIX = ".weights.h5", (".pt", ".pth"), ".h5"

# Blocks of each stage -> the network that has them, with its kind of block.
_DEPTHS = {
    (2, 2, 2, 2, "basic"): "ResNet-18",
    (3, 4, 6, 3, "basic"): "ResNet-34",
    (3, 4, 6, 3, "bottleneck"): "ResNet-50",
    (3, 4, 23, 3, "bottleneck"): "ResNet-101",
    (3, 8, 36, 3, "bottleneck"): "ResNet-152",
}
ENCODER_CONVOLUTIONS = 53
_BLOCK = re.compile(r"^layer([1-4])\.(\d+)\.")


def variant_of(weights: str | os.PathLike[str] | None) -> str:
    """Returns the layout of the encoder that `weights`, as `load_encoder` takes them, were trained in."""
    return "v1" if _kind(weights) == "applications" else "v1.5"


def load_encoder(backbone: resnet.ResNet50, weights: str | os.PathLike[str] | None) -> None:
    """Puts weights into an encoder.

    Args:
      backbone: the encoder, of the layout that `variant_of` names (one from `export encoder` is of either).
      weights: None or `none`: nothing is changed. `imagenet`: those of Keras Applications, downloaded once. Else a
        file: `.pt` or `.pth`, a torchvision-style state dict with or without `fc`, the encoder's tensors at the top or
        all under one prefix (`encoder.conv1.weight`); `.weights.h5`, as `tfllv export encoder` writes it; any other
        `.h5`, one of Keras Applications' own.

    Raises:
      ValueError: naming the file, what was expected and what was found, if it does not fit.
      OSError: if it cannot be read or downloaded.
    """
    kind = _kind(weights)
    if kind == "none":
        return
    path = os.fspath(weights)  # type: ignore[arg-type]
    if kind != "applications" and not os.path.isfile(path):
        raise FileNotFoundError(f"`weights` must be a file. Received: '{path}', which does not exist.")
    if kind == "torch":
        backbone.assign_torch(find_encoder(read_state_dict(path), path), source=path)
    elif kind == "keras":
        _load_keras(backbone, path)
    else:
        resnet.copy_keras_weights(resnet.read_applications(None if path == IMAGENET else path), backbone)


def find_encoder(state: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Returns the ResNet-50 in a state dict by torchvision's names, without what surrounds it.

    Args:
      state: name -> array.
      path: the file, for messages.

    Raises:
      ValueError: if there is none, or one of another depth.
    """
    prefixes = [name.removesuffix("conv1.weight") for name in state if f".{name}".endswith(".conv1.weight")]
    # The blocks have a conv1 too; the stem's stands beside a `layer1`.
    prefixes = [prefix for prefix in prefixes if any(name.startswith(f"{prefix}layer1.") for name in state)]
    if len(prefixes) != 1:
        found = "no ResNet" if not prefixes else f"{len(prefixes)} of them"
        raise ValueError(f"{path}: expected the state dict of one ResNet-50; found {found} in {len(state)} tensors.")
    prefix = prefixes[0]
    inner = {name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)}
    depth = _depth(inner)
    if _DEPTHS.get(depth) != "ResNet-50":
        known = _DEPTHS.get(depth, "another network")
        raise ValueError(
            f"{path}: expected a ResNet-50 (3, 4, 6, 3 bottleneck blocks); found {known} "
            f"({', '.join(map(str, depth[:4]))} {depth[4]} blocks)."
        )
    return inner


def network_options(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the options of `resnet_unet` that the shapes in its weights file tell: its classes, width and blocks.

    Raises:
      ValueError: if the file is no weights file of `resnet_unet`.
    """
    import h5py

    kernels: list[tuple[int, ...]] = []
    heads: list[tuple[int, ...]] = []

    def note(name: str, entry: Any) -> None:
        shape = getattr(entry, "shape", ())
        if len(shape) == 4:
            kernels.append(shape)
            # Heads alone have a bias, the second variable of their layer.
            if "1" in entry.parent:
                heads.append(shape)

    try:
        with h5py.File(path) as file:
            file.visititems(note)
    except OSError:
        raise ValueError(f"{path}: expected a weights file of `resnet_unet`; found no HDF5 file.") from None
    decoder = len(kernels) - len(heads) - ENCODER_CONVOLUTIONS
    if len(heads) not in (1, 2) or decoder < 10 or len({shape[2] for shape in heads}) != 1:
        raise ValueError(f"{path}: expected a weights file of `resnet_unet`; found another network's.")
    width = heads[0][2]
    channels = sorted(shape[3] for shape in heads)
    if len(heads) == 1:
        # Whether three channels are a picture or three classes cannot be told; a picture is what is asked for.
        task = "enhancement" if channels == [3] else "segmentation"
        options = {"tasks": task, "num_classes": channels[0]}
    else:
        options = {"num_classes": next((count for count in channels if count != 3), 3)}
        # Two convolutions a block: five blocks of both tasks, less those that are shared.
        options["shared_blocks"] = 10 - decoder // 2
    return {"width": width, **options}


def make_plain(backbone: resnet.ResNet50) -> keras.Model:
    """Returns the same network of Keras' own layers alone: RGB in [0, 1] -> dict of five maps."""

    def plain(layer: Any) -> Any:
        if not isinstance(layer, resnet.BatchNorm):
            return layer.__class__.from_config(layer.get_config())
        config = {key: value for key, value in layer.get_config().items() if key != "statistics"}
        return keras.layers.BatchNormalization.from_config(config)

    functional = keras.Model(backbone.input, backbone.output, name="encoder")
    copy = keras.models.clone_model(functional, clone_function=plain)
    copy.set_weights(backbone.get_weights())
    return copy


def make_folded(backbone: resnet.ResNet50) -> keras.Model:
    """Returns the same network with every normalisation inside the convolution before it: for inference alone.

    With the moving statistics, gamma (W x - mean) / sqrt(var + eps) + beta is another convolution with a bias, equal up
    to rounding; convolution, bias and activation then run as one operation. Of Keras' own layers, RGB in [0, 1] -> dict
    of five maps.

    Raises:
      ValueError: if it normalises by the statistics of each batch.
    """
    if backbone.get_config()["statistics"] == "batch":
        raise ValueError("`backbone` must normalise by moving statistics to be folded. Received: statistics='batch'.")

    def fold(layer: Any) -> Any:
        if isinstance(layer, resnet.BatchNorm):
            return keras.layers.Activation("linear", name=layer.name)
        config = layer.get_config()
        return layer.__class__.from_config(config | {"use_bias": True} if "use_bias" in config else config)

    functional = keras.Model(backbone.input, backbone.output, name="encoder")
    # A normalisation is called with `mask`, which an activation does not take.
    folded = keras.models.clone_model(
        functional, clone_function=fold, call_function=lambda layer, *inputs, **_: layer(*inputs)
    )
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.Conv2D):
            norm = backbone.get_layer(resnet.norm_of(layer.name))
            gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in norm.get_weights())
            scale = gamma / np.sqrt(variance + norm.epsilon)
            folded.get_layer(layer.name).set_weights([np.asarray(layer.kernel) * scale, beta - mean * scale])
    return folded


def _depth(state: Mapping[str, Any]) -> tuple[int, int, int, int, str]:
    blocks: dict[int, int] = dict.fromkeys((1, 2, 3, 4), 0)
    for match in filter(None, map(_BLOCK.match, state)):
        blocks[int(match[1])] = max(blocks[int(match[1])], int(match[2]) + 1)
    kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    return blocks[1], blocks[2], blocks[3], blocks[4], kind


def _kind(weights: str | os.PathLike[str] | None) -> str:
    if weights is None or os.fspath(weights) == NONE:
        return "none"
    path = os.fspath(weights)
    if path.endswith(TORCH_SUFFIXES):
        return "torch"
    if path.endswith(KERAS_SUFFIX):
        return "keras"
    if path == IMAGENET or path.endswith(APPLICATIONS_SUFFIX):
        return "applications"
    raise ValueError(
        "`weights` must be none, imagenet, or a file that ends with .pt, .pth, .weights.h5 or .h5. Received: "
        f"weights='{path}'."
    )


def _load_keras(backbone: resnet.ResNet50, path: str) -> None:
    copy = make_plain(backbone)  # what is exported, and left as it was where the file does not fit
    try:
        copy.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"{path}: expected the weights of an exported ResNet-50 encoder; found others: {reason}"
        ) from None
    backbone.set_weights(copy.get_weights())
