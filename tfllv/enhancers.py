"""The one table of enhancement methods: `get(name)` gives image -> image, for classical methods and networks alike.

Importing this module imports no TensorFlow; a classical method never does, a network does when it is first got.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tfllv import contracts, models

RUNTIMES = ("tensorflow", "openvino")
# Side of a tile, in pixels, where none is asked for; a float32 picture of that size takes 12 MB.
TILE = 1024


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
      kind: `classical` or `network`.
      summary: one line for `tfllv list`.
      source: the paper or the reference implementation.
      module: where the function (classical) or the enhancer factory (network) is.
      function: its name.
      halo: pixels around an output pixel that it depends on; None where it depends on the whole image.
      network: its network's key in `models.MODELS`, where that is not the method's own.
    """

    kind: str
    summary: str
    source: str
    module: str
    function: str
    halo: int | None = None
    network: str = ""


METHODS: dict[str, Method] = {
    "histogram_equalization": Method(
        "classical",
        "global histogram equalisation of the luma",
        "OpenCV equalizeHist on Y of YCrCb",
        "tfllv.ops.exposure",
        "equalize_histogram",
    ),
    "clahe": Method(
        "classical",
        "contrast-limited adaptive histogram equalisation of L",
        "Zuiderveld 1994; OpenCV CLAHE on L of Lab",
        "tfllv.ops.exposure",
        "equalize_adaptive",
    ),
    "gamma": Method("classical", "gamma correction, x ** 0.5", "power law", "tfllv.ops.exposure", "adjust_gamma", 0),
    "exposure": Method(
        "classical", "exposure correction, 1.5 times", "linear gain", "tfllv.ops.exposure", "adjust_exposure", 0
    ),
    "adaptive_gamma": Method(
        "classical",
        "gamma chosen from the mean level, so that mid-grey results",
        "gamma = log(0.5) / log(mean)",
        "tfllv.ops.exposure",
        "adapt_gamma",
    ),
    "ssr": Method(
        "classical",
        "single-scale Retinex, stretched between percentiles",
        "Jobson, Rahman and Woodell 1997, doi:10.1109/83.557356",
        "tfllv.ops.retinex",
        "apply_ssr",
    ),
    "msr": Method(
        "classical",
        "multi-scale Retinex, stretched between percentiles",
        "Jobson, Rahman and Woodell 1997, doi:10.1109/83.597272",
        "tfllv.ops.retinex",
        "apply_msr",
    ),
    "lime": Method(
        "classical",
        "LIME: division by a refined illumination map",
        "Guo, Li and Ling 2017, doi:10.1109/TIP.2016.2639450",
        "tfllv.ops.lime",
        "apply_lime",
    ),
    "sgz": Method(
        "network",
        "SGZ: zero-shot, semantic-guided curve network",
        "Zheng and Gupta 2022, arXiv:2110.00970",
        "tfllv.runner.networks",
        "curve_enhancer",
    ),
    "mirnet_small": Method(
        "network",
        "small MIRNet, trained on pairs: tone curves for every place",
        "after Zamir et al. 2020, arXiv:2003.06792",
        "tfllv.runner.image_network",
        "image_enhancer",
    ),
    "diffusion": Method(
        "network",
        "conditional diffusion model, by overlapping tiles in a few steps",
        "after Ho et al. 2020, arXiv:2006.11239; Lu et al. 2022, arXiv:2211.01095",
        "tfllv.runner.diffusion",
        "diffusion_enhancer",
        network="diffusion_unet_small",
    ),
    "mirnet": Method(
        "network",
        "MIRNet: multi-scale residual blocks; memory by the picture's size",
        "Zamir et al. 2020, arXiv:2003.06792",
        "tfllv.runner.image_network",
        "image_enhancer",
    ),
    "multitask": Method(
        "network",
        "multi-task ResNet-50 U-Net, trained to brighten and to segment",
        "Ronneberger et al. 2015, arXiv:1505.04597; He et al. 2016, arXiv:1512.03385",
        "tfllv.runner.image_network",
        "multitask_enhancer",
        network="resnet_unet",
    ),
    "zero_dce": Method(
        "network",
        "Zero-DCE: deep curve estimation",
        "Guo et al. 2020, arXiv:2001.06826",
        "tfllv.runner.networks",
        "curve_enhancer",
    ),
    "zero_dce_pp": Method(
        "network",
        "Zero-DCE++: light deep curve estimation",
        "Li, Guo and Loy 2021, arXiv:2103.00860",
        "tfllv.runner.networks",
        "curve_enhancer",
    ),
}


class Enhancer:
    """image -> image. Made by `get`; call it, or use `tiled` for large pictures and `stream` for video.

    Attributes:
      name: its key in `METHODS`.
      method: the table row.
    """

    def __init__(self, name: str, function: Callable[[np.ndarray], np.ndarray]):
        self.name = name
        self.method = METHODS[name]
        self._function = function

    def __call__(self, image: Any) -> np.ndarray:
        """Enhances one image or one batch.

        Args:
          image: [H, W, 3] or [B, H, W, 3], float32 in [0, 1] or uint8.

        Returns:
          An array of the same shape and type; float32 is in [0, 1].

        Raises:
          ValueError: by `contracts.check_image`.
        """
        array = contracts.check_image(image)
        result = self._function(contracts.to_float(array))
        return contracts.to_type(result, array.dtype)

    def tiled(self, image: np.ndarray, tile: int | None = None) -> np.ndarray:
        """Enhances one image of any size in bounded memory.

        Args:
          image: [H, W, 3] uint8, uint16 or float32 in [0, 1].
          tile: side of a tile in pixels, which sets the pixels in work at a time (strips of rows of that area); None
            chooses, 0 does not tile. A method that depends on the whole image is never tiled.

        Returns:
          An array of the same shape and type, within one level of 255 of the untiled result.
        """
        halo = self.method.halo
        if halo is None or tile == 0:
            return contracts.to_type(self._function(contracts.to_float(image)), image.dtype)
        height, width = image.shape[:2]
        rows = max(1, (tile or TILE) ** 2 // width)
        result = np.empty_like(image)
        for top in range(0, height, rows):
            first, bottom = max(top - halo, 0), min(top + rows, height)
            strip = self._function(contracts.to_float(image[first : bottom + halo]))
            result[top:bottom] = contracts.to_type(strip[top - first : bottom - first], image.dtype)
        return result

    def stream(self, *, smoothing: float = 0.9) -> Callable[[np.ndarray], np.ndarray]:
        """Returns a function for the frames of one video, in order: [H, W, 3] uint8 -> the same.

        Args:
          smoothing: weight of the past in the moving average of what the method estimates, in [0, 1); 0 treats each
            frame alone. Methods that estimate nothing smoothable treat each frame alone.
        """
        del smoothing
        return self.__call__


def shipped_weights(name: str) -> pathlib.Path | None:
    """Returns the file that the package carries for a method, None where it carries none or needs none."""
    network = METHODS[name].network or name
    return models.shipped_weights(network) if network in models.MODELS else None


def needs_weights(name: str) -> bool:
    """Whether the method runs only with weights of the user's own: it is a network, and none are shipped for it."""
    return METHODS[name].kind == "network" and shipped_weights(name) is None


def check_runtime(name: str, runtime: str) -> None:
    """Checks that the method `name` runs on `runtime`, without importing it.

    Raises:
      ValueError: if the runtime is unknown, not for this method, or not installed.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"`runtime` must be one of {', '.join(RUNTIMES)}. Received: runtime='{runtime}'.")
    if runtime == RUNTIMES[0]:
        return
    taking = [key for key, method in METHODS.items() if method.function == "curve_enhancer"]
    if name not in taking:
        raise ValueError(
            f"`runtime` must be {RUNTIMES[0]} but for {', '.join(taking)}. Received: {runtime} with '{name}'."
        )
    if importlib.util.find_spec(runtime) is None:
        raise ValueError(f"`runtime` {runtime} is not installed; call: pip install 'tfllv[{runtime}]'")


def get(name: str, *, runtime: str = RUNTIMES[0], **options: Any) -> Enhancer:
    """Returns the enhancer `name`.

    Args:
      name: a key of `METHODS`.
      runtime: `tensorflow`, or `openvino` for the curve networks, quicker on CPUs; extra `[openvino]`.
      **options: the method's own options; networks take `weights` (a file; default: those shipped), `precision`
        (`float32` or `bfloat16`) and the network's options.

    Raises:
      ValueError: if the name or an option is unknown, a network has no weights, or the runtime cannot be had.
    """
    if name not in METHODS:
        raise ValueError(f"`name` must be a method. Received: name='{name}'; {contracts.nearest_name(name, METHODS)}")
    method = METHODS[name]
    check_runtime(name, runtime)
    if runtime != RUNTIMES[0]:
        options["runtime"] = runtime
    function = getattr(importlib.import_module(method.module), method.function)
    if method.kind == "classical":
        return Enhancer(name, lambda image: function(image, **options))
    return function(name, **options)
