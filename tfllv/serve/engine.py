"""What answers a request: one interface for the bundled methods and for SavedModels of any kind.

An engine is one version of one model, in memory, and never changes. The registry replaces it by another engine when a
new version appears; requests that hold the old one finish with it.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllv import contracts, enhancers
from tfllv.serve import pictures
from tfllv.serve.limits import Limits, cores
from tfllv.serve.refusals import RefusalError

ENHANCE, SEGMENT, DETECT = "enhance", "segment", "detect"
DEFAULT_SIGNATURE, BYTES_SIGNATURE = "serving_default", "serving_bytes"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One input or output of a signature: its NumPy type (`str` for bytes) and shape, -1 where any length fits."""

    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Signature:
    """The named tensors that go in and come out."""

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Result:
    """What an engine found in one picture.

    Attributes:
      image: the enhanced picture, of the input's shape and type; None where the engine does not enhance.
      labels: [H, W] uint8 or int32, the class of each pixel; None where it does not segment.
      detections: `boxes` [N, 4], `scores` [N], `classes` [N] and maybe `masks` [N, h, w]; None where it does not
        detect.
    """

    image: np.ndarray | None = None
    labels: np.ndarray | None = None
    detections: Mapping[str, np.ndarray] | None = None


class Engine(abc.ABC):
    """One version of one model.

    Attributes:
      name: of the model.
      version: a number.
      tasks: what it can do: `enhance`, `segment`, `detect`.
      max_batch: pictures of equal size that it takes at once, at most.
      workers: threads that may call it at once.
      copies: bytes `run` needs for each byte of a picture, besides the picture.
      predict_copies: bytes `predict` needs for each byte that it is given.
      facts: what `/models` says of it beside name, version and tasks.
    """

    name: str
    version: int
    tasks: frozenset[str]
    max_batch: int = 1 << 30
    workers: int = 1
    copies: int = 4
    predict_copies: int = 4
    facts: dict[str, Any]

    @property
    def classes(self) -> Mapping[int, str]:
        """Class number -> name, where the model has classes."""
        return self.facts.get("classes", {})

    @abc.abstractmethod
    def run(self, batch: Sequence[np.ndarray]) -> list[Result]:
        """Does what the engine does to pictures of one shape and type: [H, W, 3] uint8 or uint16."""

    @property
    @abc.abstractmethod
    def signatures(self) -> Mapping[str, Signature]:
        """What `predict` can be called with."""

    @abc.abstractmethod
    def predict(self, signature: str, inputs: Mapping[str, np.ndarray], limits: Limits) -> dict[str, np.ndarray]:
        """Runs a signature as TF Serving would; bytes are arrays of objects.

        Raises:
          RefusalError: if an input does not fit.
        """


class EnhancerEngine(Engine):
    """A method of `enhancers.METHODS` as it is bundled; gives the very pixels that `tfllv enhance` writes."""

    def __init__(self, name: str):
        self.name, self.version, self.tasks = name, 1, frozenset({ENHANCE})
        self._enhancer = enhancers.get(name)
        method = self._enhancer.method
        self._network = method.kind == "network"
        # A network spreads over all cores by itself and gains from batches; the classical methods do neither.
        self.workers = 1 if self._network else cores()
        self.max_batch = Engine.max_batch if self._network else 1
        self.facts = {"kind": method.kind, "summary": method.summary, "precision": "float32", "source": "bundled"}
        # Traces the graphs, so that the first request is as fast as the others.
        for dtype in (np.uint8, np.uint16):
            self.run([np.full((48, 64, 3), 30, dtype)] * 2)
        self._enhancer(np.full((1, 48, 64, 3), 0.1, np.float32))

    def run(self, batch: Sequence[np.ndarray]) -> list[Result]:
        """Enhances; see `Engine.run`."""
        if self._network and len(batch) > 1 and batch[0].dtype == np.uint8:
            return [Result(image) for image in self._enhancer(np.stack(batch))]
        return [Result(self._enhancer.tiled(image)) for image in batch]

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The two signatures that every export of a method has."""
        image, encoded = Tensor("float32", (-1, -1, -1, 3)), Tensor("str", (-1,))
        return {
            DEFAULT_SIGNATURE: Signature({"image": image}, {"image": image}),
            BYTES_SIGNATURE: Signature({"image_bytes": encoded}, {"image_bytes": encoded}),
        }

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray], limits: Limits) -> dict[str, np.ndarray]:
        """Computes what the signature of an export would; see `Engine.predict`."""
        if signature == BYTES_SIGNATURE:
            results = [self._enhance_bytes(data, limits) for data in inputs["image_bytes"]]
            return {"image_bytes": np.array(results, object)}
        image = contracts.check_image(inputs["image"])
        if image.ndim != 4 or not len(image):
            raise RefusalError(400, "bad_input", f"`image` must be [B, H, W, 3]. Received: shape={image.shape}.")
        return {"image": self._enhancer(image)}

    def _enhance_bytes(self, data: bytes, limits: Limits) -> bytes:
        pictures.check_upload(data, limits)
        picture = pictures.decode(data, limits)
        return pictures.encode(
            contracts.to_uint8(self._enhancer.tiled(_to_uint8(picture.pixels))), pictures.Rendering()
        )


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return contracts.to_uint8(contracts.to_float(pixels)) if pixels.dtype == np.uint16 else pixels


def check_inputs(signature: Signature, inputs: Mapping[str, np.ndarray], limits: Limits) -> int:
    """Checks names, types, shapes and sizes of a signature's inputs before anything is computed.

    Returns:
      Bytes of the largest picture, decoded.

    Raises:
      RefusalError: 400 if a name, type or shape is wrong, 413 if it is too large, as `pictures.check_upload` for bytes.
    """
    if set(inputs) != set(signature.inputs):
        raise RefusalError(
            400,
            "bad_input",
            f"`inputs` must be {', '.join(sorted(signature.inputs))}. Received: {', '.join(sorted(inputs))[:200]}.",
        )
    size = 0
    for name, tensor in signature.inputs.items():
        array, shape = inputs[name], tensor.shape
        fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape, strict=True))
        if not fits or 0 in array.shape:
            raise RefusalError(
                400, "bad_input", f"`{name}` must be of shape {list(shape)}. Received: {list(array.shape)}."
            )
        if len(array) > limits.max_files:
            raise RefusalError(
                413, "too_many_files", f"`{name}` must hold at most {limits.max_files}. Received: {len(array)}."
            )
        if tensor.dtype == "str":
            size = max([size, *(pictures.check_upload(data, limits).pixel_bytes for data in array.ravel())])
        elif array.ndim == 4 and array.shape[1] * array.shape[2] > limits.max_pixels:
            raise RefusalError(413, "too_many_pixels", f"`{name}` must have at most {limits.max_pixels:,} pixels.")
        else:
            size = max(size, array.nbytes)
    return size
