"""The curve networks' convolutions and curve on OpenVINO, a quicker runtime on CPUs (extra `[openvino]`).

The picture is worked through in strips of rows, as in `networks.CurveGraph`, several at a time: one stream of the
runtime, with a thread of its own, for each. Two models are compiled: the map of a strip, whose sides are free, and the
bending of a fixed count of pixels, whose eight iterations the runtime fuses into one loop only where sides are fixed.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
from concurrent import futures
from typing import Any

import numpy as np
import openvino as ov
import tensorflow as tf
from openvino import opset13 as op

from tfllv.models import curve as curves
from tfllv.runner import networks

# Streams beyond this only take memory: a picture has few strips.
MOST_STREAMS = 8
# Pixels bent by one call: few enough that they stay in a core's cache.
BEND_PIXELS = 16_384
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoGraph(networks.CurveGraph):
    """`networks.CurveGraph` with the convolutions, and at `scale_factor` 1 the curve too, on OpenVINO.

    Shrinking, and bending by an enlarged map, stay TensorFlow's. `bfloat16` is used where the processor has
    instructions for it, else float32. Safe to call from several threads.

    Args:
      model: a `tfllv.models.curve.CurveNetwork` with its weights.
      precision: `float32`, or `bfloat16` for the convolutions.

    Raises:
      ValueError: if `precision` is unknown.
    """

    def __init__(self, model: Any, *, precision: str = "float32"):
        super().__init__(model, precision=precision)
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._streams = min(threads, MOST_STREAMS)
        self._settings = {"NUM_STREAMS": self._streams, "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        self._hint = _HINTS[precision]
        self._weights = [networks.fold(layer) for layer in model.convolutions]
        self._requests: dict[str, queue.SimpleQueue] = {}
        self._lock = threading.Lock()
        self._pool = futures.ThreadPoolExecutor(self._streams)

    def enhance(self, images: tf.Tensor, strip_pixels: int = networks.STRIP_PIXELS) -> tf.Tensor:
        """Enhances a batch; see `CurveGraph.enhance`."""
        return tf.convert_to_tensor(self.enhance_array(images.numpy(), strip_pixels))

    def enhance_array(self, images: np.ndarray, strip_pixels: int = networks.STRIP_PIXELS) -> np.ndarray:
        """Enhances a batch of NumPy pictures; see `CurveGraph.enhance`."""
        if self._model.scale_factor > 1:
            tensor = tf.convert_to_tensor(images)
            return self.bend(tensor, self.curve_map(tensor, strip_pixels), strip_pixels).numpy()
        images = np.ascontiguousarray(images)
        result = np.empty_like(images)
        requests = self._compiled(images.dtype)

        def enhance_strip(index: int, first: int, last: int, top: int, bottom: int) -> None:
            one, two = requests.get()
            try:
                curve = _infer(one, images[index : index + 1, first:last])[0, top - first : bottom - first]
                _bend(two, images[index, top:bottom], curve, result[index, top:bottom])
            finally:
                requests.put((one, two))

        self._each_strip(images.shape, strip_pixels, enhance_strip)
        return result

    def curve_map(self, images: tf.Tensor, strip_pixels: int = networks.STRIP_PIXELS) -> tf.Tensor:
        """Predicts the curve map alone; see `CurveGraph.curve_map`."""
        small = self.shrink(images, strip_pixels).numpy()
        result = np.empty((*small.shape[:3], self._model.curve_channels), np.float32)
        requests = self._compiled(small.dtype)

        def predict_strip(index: int, first: int, last: int, top: int, bottom: int) -> None:
            one, two = requests.get()
            try:
                curve = _infer(one, small[index : index + 1, first:last])
                result[index, top:bottom] = curve[0, top - first : bottom - first]
            finally:
                requests.put((one, two))

        self._each_strip(small.shape, strip_pixels, predict_strip)
        return tf.convert_to_tensor(result)

    def _each_strip(self, shape: tuple[int, ...], strip_pixels: int, function: Any) -> None:
        """Calls `function(picture, *strip)` for every strip of `plan_strips` of every picture."""
        planned = plan_strips(*shape[1:3], halo=self._model.halo, strip_pixels=strip_pixels, streams=self._streams)
        jobs = [self._pool.submit(function, index, *strip) for index in range(shape[0]) for strip in planned]
        for job in jobs:
            job.result()

    def _compiled(self, dtype: np.dtype) -> queue.SimpleQueue:
        """Returns the pairs of requests (map, bending) for an image type, one for each stream; compiles once."""
        with self._lock:
            if dtype.name not in self._requests:
                core = ov.Core()
                # The map's own end, tanh, stays float32: the hint is for what comes before the last convolution.
                graph = core.compile_model(
                    self._map_model(dtype), "CPU", {**self._settings, "INFERENCE_PRECISION_HINT": self._hint}
                )
                bend = core.compile_model(
                    _bend_model(dtype, self._model.curve_channels),
                    "CPU",
                    {**self._settings, "INFERENCE_PRECISION_HINT": "f32"},
                )
                pairs: queue.SimpleQueue = queue.SimpleQueue()
                for _ in range(self._streams):
                    pairs.put((graph.create_infer_request(), bend.create_infer_request()))
                self._requests[dtype.name] = pairs
            return self._requests[dtype.name]

    def _map_model(self, dtype: np.dtype) -> ov.Model:
        """[1, h, w, 3] of `dtype` -> the curve map, [1, h, w, C] float32."""
        image = op.parameter([1, -1, -1, 3], dtype)
        x = op.transpose(_to_float(image, dtype), np.array([0, 3, 1, 2]))
        one, two, three, four, five, six, seven = self._weights
        x1 = op.relu(_convolution(one, x))
        x2 = op.relu(_convolution(two, x1))
        x3 = op.relu(_convolution(three, x2))
        x4 = op.relu(_convolution(four, x3))
        x5 = op.relu(_convolution(five, x3, x4))
        x6 = op.relu(_convolution(six, x2, x5))
        curve = op.tanh(_convolution(seven, x1, x6))
        return ov.Model([op.transpose(curve, np.array([0, 2, 3, 1]))], [image])


def plan_strips(
    height: int, width: int, *, halo: int, strip_pixels: int, streams: int
) -> list[tuple[int, int, int, int]]:
    """Returns the strips of a picture: (first, last, top, bottom), rows first..last being read to make top..bottom.

    All read the same count of rows, so that the runtime prepares itself for one shape, and there is a whole number of
    strips for each stream where the picture is high enough.
    """
    count = 1
    if height > 2 * halo and height * width > strip_pixels:
        count = min(-(-height * width // (strip_pixels * streams)) * streams, height - 2 * halo)
    rows = -(-(height + 2 * halo * (count - 1)) // count)
    starts = [index * (height - rows) // max(1, count - 1) for index in range(count)]
    cuts = [0, *(start + halo for start in starts[1:]), height]
    return [(start, start + rows, *cut) for start, cut in zip(starts, itertools.pairwise(cuts), strict=True)]


def _infer(request: Any, strip: np.ndarray) -> np.ndarray:
    """Returns the result in the request's own memory: to be read before the request is used again."""
    request.infer({0: strip}, share_inputs=True)
    return request.get_output_tensor(0).data


def _bend(request: Any, image: np.ndarray, curve: np.ndarray, result: np.ndarray) -> None:
    """Bends [h, w, 3] along [h, w, C] into `result`, chunk by chunk; the last one overlaps the one before it."""
    x, r, y = image.reshape(-1, 3), curve.reshape(-1, curve.shape[-1]), result.reshape(-1, 3)
    if len(x) < BEND_PIXELS:
        fill = ((0, BEND_PIXELS - len(x)), (0, 0))
        request.infer({0: np.pad(x, fill), 1: np.pad(r, fill)}, share_inputs=True)
        y[:] = request.get_output_tensor(0).data[: len(y)]
        return
    for start in range(0, len(x), BEND_PIXELS):
        chunk = slice(min(start, len(x) - BEND_PIXELS), min(start + BEND_PIXELS, len(x)))
        request.infer({0: x[chunk], 1: r[chunk]}, share_inputs=True)
        y[chunk] = request.get_output_tensor(0).data


def _bend_model(dtype: np.dtype, channels: int) -> ov.Model:
    """[n, 3] of `dtype` in [0, its maximum] and [n, C] float32 -> [n, 3] of `dtype`; see `CurveNetwork.apply_curve`."""
    image, curve = op.parameter([BEND_PIXELS, 3], dtype), op.parameter([BEND_PIXELS, channels], np.float32)
    x = _to_float(image, dtype)
    steps = [curve] * curves.ITERATIONS if channels == 3 else op.split(curve, 1, curves.ITERATIONS).outputs()
    for step in steps:
        x = op.multiply(x, op.add(op.subtract(_constant(1), step), op.multiply(step, x)))
    x = op.clamp(x, 0.0, 1.0)
    if dtype != np.float32:
        x = op.convert(op.add(op.multiply(x, _constant(np.iinfo(dtype).max)), _constant(0.5)), dtype)
    return ov.Model([x], [image, curve])


def _to_float(image: Any, dtype: np.dtype) -> Any:
    if dtype == np.float32:
        return image
    return op.multiply(op.convert(image, np.float32), _constant(1 / np.iinfo(dtype).max))


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


def _constant(value: Any) -> Any:
    return op.constant(np.ascontiguousarray(value, np.float32))
