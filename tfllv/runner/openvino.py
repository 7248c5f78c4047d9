"""The curve networks' convolutions and curve on OpenVINO, a quicker runtime on CPUs (extra `[openvino]`).

The picture is worked through in strips of rows, as in `networks.CurveGraph`; all threads work on one strip, which stays
in the processor's cache. A model is compiled for each shape of a strip (in about 0.1 s): with free sides, the runtime
would not fuse the eight iterations of the curve into one loop, and take twice as long.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import openvino as ov
import tensorflow as tf
from openvino import opset13 as op

from tfllv import contracts
from tfllv.models import curve as curves
from tfllv.runner import networks

# Measured best beside other work in the cache; fewer pay for their halo rows.
STRIP_PIXELS = 40_000
# Compiled models that are kept; each holds the activations of a strip.
MOST_MODELS = 4


class OpenVinoGraph(networks.CurveGraph):
    """`networks.CurveGraph` with the convolutions, and at `scale_factor` 1 the curve too, on OpenVINO.

    `bfloat16` is used where the processor has
    instructions for it, else float32. Several threads may call it; their pictures are done one after the other.

    Args:
      model: a `tfllv.models.curve.CurveNetwork` with its weights.
      precision: `float32`, or `bfloat16` for the convolutions.

    Raises:
      ValueError: if `precision` is unknown.
    """

    strip_pixels = STRIP_PIXELS

    def __init__(self, model: Any, *, precision: str = "float32"):
        super().__init__(model, precision=precision)
        with kept_signal_stack():
            able = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._settings = {
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": _processors(),
            # Where the processor cannot, the runtime would imitate bfloat16, slower than float32.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" and able else "f32",
        }
        self._weights = [networks.fold(layer) for layer in model.convolutions]
        self._request = functools.lru_cache(MOST_MODELS)(self._compile)
        self._lock = threading.Lock()

    def enhance(self, images: tf.Tensor, strip_pixels: int = STRIP_PIXELS) -> tf.Tensor:
        """Enhances a batch; see `CurveGraph.enhance`."""
        return tf.convert_to_tensor(self.enhance_array(images.numpy(), strip_pixels))

    def enhance_array(self, images: np.ndarray, strip_pixels: int = STRIP_PIXELS) -> np.ndarray:
        """Enhances a batch of NumPy pictures; see `CurveGraph.enhance`."""
        if self._model.scale_factor == 1:
            return self._run(images, np.empty_like(images, order="C"), strip_pixels, bend=True)
        return super().enhance_array(images, strip_pixels)

    def curve_map(self, images: np.ndarray, strip_pixels: int = STRIP_PIXELS) -> np.ndarray:
        """Predicts the curve map alone; see `CurveGraph.curve_map`."""
        small = self.split.shrink(images)
        result = np.empty((*small.shape[:3], self._model.curve_channels), np.float32)
        return self._run(small, result, strip_pixels, bend=False)

    def _run(self, images: np.ndarray, result: np.ndarray, strip_pixels: int, *, bend: bool) -> np.ndarray:
        images = np.ascontiguousarray(images)
        strips = plan_strips(*images.shape[1:3], halo=self._model.halo, strip_pixels=strip_pixels)
        with self._lock, kept_signal_stack():
            for index, (first, last, top, bottom) in itertools.product(range(len(images)), strips):
                strip = images[index : index + 1, first:last]
                if strip.dtype == np.uint16:  # of which the runtime itself makes wrong numbers
                    strip = contracts.to_float(strip)
                request = self._request(*strip.shape[1:3], strip.dtype.name, bend)
                request.infer({0: strip}, share_inputs=True)
                made = request.get_output_tensor(0).data[0, top - first : bottom - first]
                result[index, top:bottom] = contracts.to_type(made, result.dtype)
        return result

    def _compile(self, rows: int, width: int, dtype: str, bend: bool) -> Any:
        """Returns a model's request: [1, rows, width, 3] uint8 or float32 -> the same, or the float32 curve map."""
        image = op.parameter([1, rows, width, 3], np.dtype(dtype))
        picture = image if dtype == "float32" else _scaled(op.convert(image, np.float32), 1 / 255)
        result = op.transpose(self._convolve(op.transpose(picture, np.array([0, 3, 1, 2]))), np.array([0, 2, 3, 1]))
        result = _bent(picture, result, (rows, 3 * width), dtype) if bend else op.tanh(result)
        model = ov.Model([result], [image])
        return ov.Core().compile_model(model, "CPU", self._settings).create_infer_request()

    def _convolve(self, x: Any) -> Any:  # the curve map before tanh
        one, two, three, four, five, six, seven = self._weights
        x1 = op.relu(_convolution(one, x))
        x2 = op.relu(_convolution(two, x1))
        x3 = op.relu(_convolution(three, x2))
        x4 = op.relu(_convolution(four, x3))
        x5 = op.relu(_convolution(five, x3, x4))
        x6 = op.relu(_convolution(six, x2, x5))
        return _convolution(seven, x1, x6)


class SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t))


@contextlib.contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Gives the calling thread its stack for signals back.

    The runtime (2026.4) sets one where it asks what the processor can, and frees it but leaves it set: the next signal
    with a Python handler, such as Ctrl-C, would end the process by a segmentation fault.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    library, before = ctypes.CDLL(None), SignalStack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)


def plan_strips(height: int, width: int, *, halo: int, strip_pixels: int) -> list[tuple[int, int, int, int]]:
    """Returns the strips of a picture: (first, last, top, bottom), rows first..last being read to make top..bottom.

    There are about `strip_pixels` pixels to a strip, and all read the same count of rows, so that one model does them.
    A strip of a wide picture is not lower than four halos, unless less than `STRIP_PIXELS` is asked for.
    """
    if strip_pixels >= STRIP_PIXELS:
        strip_pixels = max(strip_pixels, 4 * halo * width)
    count = max(1, min(-(-height * width // strip_pixels), height - 2 * halo))
    rows = -(-(height + 2 * halo * (count - 1)) // count)
    starts = [index * (height - rows) // max(1, count - 1) for index in range(count)]
    cuts = [0, *(start + halo for start in starts[1:]), height]
    return [(start, start + rows, *cut) for start, cut in zip(starts, itertools.pairwise(cuts), strict=True)]


def _bent(picture: Any, curve: Any, shape: tuple[int, int], dtype: str) -> Any:
    """Bends the picture along the curve map, given before tanh; clips and rounds. See `CurveNetwork.apply_curve`.

    In two dimensions, `shape`: the runtime's loop then runs along whole rows and not along three channels.
    """
    x = op.reshape(picture, np.array(shape), False)
    channels = curve.shape[-1]
    parts = [curve] if channels == 3 else op.split(curve, 3, curves.ITERATIONS).outputs()
    steps = [op.tanh(op.reshape(part, np.array(shape), False)) for part in parts]
    for step in steps if channels > 3 else steps * curves.ITERATIONS:
        x = op.multiply(x, op.add(op.subtract(_constant(1), step), op.multiply(step, x)))
    x = op.clamp(x, 0.0, 1.0)
    if dtype != "float32":
        x = op.convert(op.add(_scaled(x, 255), _constant(0.5)), np.uint8)
    return op.reshape(x, np.array(picture.shape), False)


def _convolution(weights: tuple[np.ndarray | None, np.ndarray, np.ndarray], *inputs: Any) -> Any:
    """One folded convolution over one or two inputs, [1, C, h, w], summed instead of concatenated."""
    depthwise, kernel, bias = weights
    total = None
    for number, (x, part) in enumerate(zip(inputs, np.split(kernel, len(inputs), axis=2), strict=True)):
        if depthwise is not None:
            filters = np.split(depthwise, len(inputs), axis=2)[number].transpose(2, 3, 0, 1)[:, None]
            x = op.group_convolution(x, _constant(filters), [1, 1], [1, 1], [1, 1], [1, 1])
        pad = [side // 2 for side in part.shape[:2]]
        x = op.convolution(x, _constant(part.transpose(3, 2, 0, 1)), [1, 1], pad, pad, [1, 1])
        if number == len(inputs) - 1:  # bias before sum: the order in which the runtime fuses all three
            x = op.add(x, _constant(bias[None, :, None, None]))
        total = x if total is None else op.add(x, total)
    return total


def _scaled(x: Any, factor: float) -> Any:
    return op.multiply(x, _constant(factor))


def _constant(value: Any) -> Any:
    return op.constant(np.ascontiguousarray(value, np.float32))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
