"""The networks: `build(name, **options)` gives a Keras model, image -> dict of tensors.

`MODELS` is the one explicit table; it holds module names as text, so that reading it imports nothing.
Every network takes float32 [B, H, W, 3] in [0, 1], any H and W, and returns a dict with `image` of the same shape
and its other outputs by name. Weights are read with `model.load_weights(path)`.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pathlib
from typing import Any

from tfllv import contracts

WEIGHTS_FOLDER = pathlib.Path(__file__).parent.parent / "weights"


@dataclasses.dataclass(frozen=True)
class ModelEntry:
    """One row of the table: where the class is, what it is, and the weights file shipped with the package, if any."""

    module: str
    class_name: str
    summary: str
    source: str
    weights: str | None = None


MODELS: dict[str, ModelEntry] = {
    "diffusion_unet": ModelEntry(
        "tfllv.models.diffusion_unet",
        "DiffusionUNet",
        "conditional ConvNeXt U-Net of a diffusion model (14,715,681 parameters)",
        "Ho et al., NeurIPS 2020, arXiv:2006.11239; conditioned on the dark picture",
    ),
    "diffusion_unet_small": ModelEntry(
        "tfllv.models.diffusion_unet",
        "DiffusionUNetSmall",
        "the same for a CPU, diffusing the distance to a guess of the tone (972,464 parameters)",
        "after Ho et al., NeurIPS 2020, arXiv:2006.11239",
        weights="diffusion_unet_small.weights.h5",
    ),
    "mirnet": ModelEntry(
        "tfllv.models.mirnet",
        "MIRNet",
        "multi-scale residual network for restoration (31,787,419 parameters)",
        "Zamir et al., ECCV 2020, arXiv:2003.06792",
    ),
    "mirnet_small": ModelEntry(
        "tfllv.models.mirnet_small",
        "MIRNetSmall",
        "MIRNet's blocks on a small copy of the picture, predicting tone curves (773,720 parameters)",
        "after Zamir et al., ECCV 2020, arXiv:2003.06792",
        weights="mirnet_small.weights.h5",
    ),
    "pix2pix": ModelEntry(
        "tfllv.models.pix2pix",
        "Pix2Pix",
        "U-Net generator of a conditional adversarial network (54,413,955 parameters)",
        "Isola et al., CVPR 2017, arXiv:1611.07004",
    ),
    "resnet_unet": ModelEntry(
        "tfllv.models.resnet_unet",
        "ResNetUNet",
        "ResNet-50 U-Net for two tasks: brightens, and says what is in the picture (32,643,946 parameters)",
        "Ronneberger et al., MICCAI 2015, arXiv:1505.04597; He et al., CVPR 2016, arXiv:1512.03385",
    ),
    "sgz": ModelEntry(
        "tfllv.models.sgz",
        "SGZ",
        "zero-shot, semantic-guided curve network (10,561 parameters)",
        "Zheng and Gupta, WACV Workshops 2022, arXiv:2110.00970",
        weights="sgz.weights.h5",
    ),
    "zero_dce": ModelEntry(
        "tfllv.models.zero_dce",
        "ZeroDCE",
        "zero-reference deep curve estimation (79,416 parameters)",
        "Guo et al., CVPR 2020, arXiv:2001.06826",
    ),
    "zero_dce_pp": ModelEntry(
        "tfllv.models.zero_dce",
        "ZeroDCEPP",
        "zero-reference deep curve estimation, light version (10,561 parameters)",
        "Li, Guo and Loy, TPAMI 2021, arXiv:2103.00860",
    ),
}


def entry(name: str) -> ModelEntry:
    """Returns the table row of `name`.

    Raises:
      ValueError: if there is no such network; the message names the nearest one.
    """
    if name not in MODELS:
        raise ValueError(f"`name` must be a network. Received: name='{name}'; {contracts.nearest_name(name, MODELS)}")
    return MODELS[name]


def build(name: str, **options: Any) -> Any:
    """Builds a network with fresh random weights.

    Args:
      name: a key of `MODELS`.
      **options: the network's own options, such as `scale_factor=12` for `sgz`.

    Returns:
      A built `keras.Model`: float32 [B, H, W, 3] in [0, 1] -> dict with `image` of the same shape.

    Raises:
      ValueError: if the name or an option is unknown.
    """
    row = entry(name)
    network = getattr(importlib.import_module(row.module), row.class_name)
    known = inspect.signature(network.__init__).parameters.keys() - {"self"}
    for option in options:
        if option not in known:
            raise ValueError(
                f"`{name}` has no such option. Received: {option}={options[option]}; "
                f"{contracts.nearest_name(option, known)}"
            )
    return network(**options)


def shipped_weights(name: str) -> pathlib.Path | None:
    """Returns the path of the weights shipped for `name`, or None where none are shipped."""
    row = entry(name)
    path = WEIGHTS_FOLDER / row.weights if row.weights else None
    return path if path and path.exists() else None
