"""A SavedModel as an engine: enhancement, segmentation or TFOD detection, told apart by its signature's outputs."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.records import label_map
from tfllv.runner import split
from tfllv.serve import engine
from tfllv.serve.limits import Limits
from tfllv.serve.refusals import RefusalError

FACTS_FILE = "tfllv.json"
_BOXES = "detection_boxes"
_TRIAL = (2, 48, 64)  # pictures, rows and columns of the trial run of a new version
_LONG = (24, 600)  # rows and columns of that of its two halves, which make it smaller


class BrokenModelError(ValueError):
    """A folder that is not a model that can be served."""


class SavedModelEngine(engine.Engine):
    """A SavedModel in memory.

    Args:
      folder: the folder of `saved_model.pb`; `tfllv.json` in it, or a label map beside it, gives the names of classes.
      name: of the model.
      version: a number.

    Raises:
      BrokenModelError: if it cannot be loaded, has no signature that can be served, or fails its trial run.
    """

    predict_copies = 14  # float32 in, as an array and as a tensor, and out, and the picture itself twice

    def __init__(self, folder: pathlib.Path, *, name: str, version: int):
        self.name, self.version = name, version
        self.facts = {"source": "saved_model", **_read_facts(folder)}
        self._split = split.from_facts(self.facts.pop(split.FACTS, None))
        try:
            self._model = tf.saved_model.load(str(folder))
        except Exception as error:  # whatever is wrong with it, the version before it must go on
            raise BrokenModelError(f"{folder}: cannot be loaded: {_one_line(error)}") from None
        self._functions = dict(self._model.signatures)
        if engine.DEFAULT_SIGNATURE not in self._functions:
            raise BrokenModelError(
                f"{folder}: the signatures {sorted(self._functions)} found; expected {engine.DEFAULT_SIGNATURE}."
            )
        self._signatures = {key: _signature(function) for key, function in self._functions.items()}
        default = self._signatures[engine.DEFAULT_SIGNATURE]
        self.tasks = _tasks(default.outputs)
        if not self.tasks or len(default.inputs) != 1:
            raise BrokenModelError(
                f"{folder}: {sorted(default.inputs)} -> {sorted(default.outputs)} found; expected one picture in, and "
                f"`image`, `labels`, `logits` or `{_BOXES}` out."
            )
        if self.tasks != {engine.ENHANCE} or split.ESTIMATE not in self._functions:
            self._split = None
        self._input, tensor = next(iter(default.inputs.items()))
        if tensor.shape[0] == 1:
            self.max_batch = 1
        if self._split is None:
            self.copies = self.predict_copies
        try:
            self._try()
        except BrokenModelError as error:
            raise BrokenModelError(f"{folder}: {error}") from None
        except Exception as error:
            raise BrokenModelError(f"{folder}: its trial run failed: {_one_line(error)}") from None

    def _try(self) -> None:
        """Runs a dark gradient through the model, which also makes the first request as fast as the others."""
        batch = np.repeat(_ramp(*_TRIAL[1:]), min(_TRIAL[0], self.max_batch), axis=0)
        default = self._signatures[engine.DEFAULT_SIGNATURE]
        image = batch if default.inputs[self._input].dtype == "uint8" else batch / np.float32(255)
        outputs = self.predict(engine.DEFAULT_SIGNATURE, {self._input: image}, Limits())
        for key, value in outputs.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise BrokenModelError(f"its trial run gave NaN or infinity in `{key}`.")
        if "image" in outputs and outputs["image"].shape != batch.shape:
            raise BrokenModelError(f"`image` of shape {outputs['image'].shape} for {batch.shape} found.")
        self.run(list(batch))
        if self._split is not None:
            pixels = _ramp(*_LONG)
            whole = self.predict(engine.DEFAULT_SIGNATURE, {self._input: contracts.to_float(pixels)}, Limits())
            bright = _to_levels(whole["image"], pixels.dtype).astype(int)
            off = int(np.abs(self._bend(pixels, self._split) - bright).max())
            if off > 1:
                raise BrokenModelError(
                    f"`{split.ESTIMATE}` gives another picture than `image`, by {off} levels of 255."
                )

    def _bend(self, pixels: np.ndarray, between: split.Split) -> np.ndarray:
        """Enhances by the network alone, on a small copy, and compiled loops over the pixels."""
        found = self._functions[split.ESTIMATE](**{split.SMALL: tf.constant(between.shrink(pixels))})
        return between.bend(pixels, {key: value.numpy() for key, value in found.items()})

    def run(self, batch: Sequence[np.ndarray]) -> list[engine.Result]:
        """Runs the default signature on pictures, which are turned to its type and back, or its two halves."""
        pixels = batch[0][None] if len(batch) == 1 else np.stack(batch)
        if self._split is not None:
            return [engine.Result(image) for image in self._bend(pixels, self._split)]
        takes_bytes = self._signatures[engine.DEFAULT_SIGNATURE].inputs[self._input].dtype == "uint8"
        if takes_bytes and pixels.dtype == np.uint8:
            image = pixels
        else:  # NumPy: TensorFlow's casts between levels and floats take as long as a small network
            image = contracts.to_float(pixels)
            image = contracts.to_uint8(image) if takes_bytes else image
        outputs = dict(self._functions[engine.DEFAULT_SIGNATURE](**{self._input: tf.constant(image)}))
        del image  # each is four times as large as the picture
        found = {key.removeprefix("detection_"): outputs[key].numpy() for key in _DETECTIONS if key in outputs}
        bright = _to_levels(outputs.pop("image").numpy(), pixels.dtype) if "image" in outputs else None
        labels = _labels(outputs)
        return [
            engine.Result(
                None if bright is None else bright[index],
                None if labels is None else labels[index],
                {key: value[index] for key, value in found.items()} or None,
            )
            for index in range(len(batch))
        ]

    @property
    def signatures(self) -> Mapping[str, engine.Signature]:
        """Those of the SavedModel."""
        return self._signatures

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray], limits: Limits) -> dict[str, np.ndarray]:
        """Runs a signature; see `Engine.predict`."""
        function = self._functions[signature]
        tensors = self._signatures[signature].inputs
        try:
            values = {
                key: tf.constant(array, tf.string if tensors[key].dtype == "str" else tensors[key].dtype)
                for key, array in inputs.items()
            }
            return {key: value.numpy() for key, value in function(**values).items()}
        except tf.errors.InvalidArgumentError as error:
            raise RefusalError(400, "bad_input", f"The model refused its input: {_one_line(error)}") from None


_DETECTIONS = (_BOXES, "detection_scores", "detection_classes", "detection_masks")


def _ramp(height: int, width: int) -> np.ndarray:
    """A dark gradient, [1, height, width, 3] uint8."""
    return np.linspace(0, 60, num=height * width * 3).reshape(1, height, width, 3).astype(np.uint8)


def _to_levels(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """`contracts.to_type`, but in the memory of the image."""
    np.clip(image, 0, 1, out=image)
    image *= np.float32(np.iinfo(dtype).max)
    image += np.float32(0.5)
    return image.astype(dtype)


def _labels(outputs: Mapping[str, tf.Tensor]) -> np.ndarray | None:
    """The class of each pixel, [B, H, W], where the signature says it or its logits."""
    if "labels" in outputs:
        return outputs["labels"].numpy()
    if "logits" not in outputs:
        return None
    few = outputs["logits"].shape[-1] <= 256
    return tf.cast(tf.argmax(outputs["logits"], -1), tf.uint8 if few else tf.int32).numpy()


def _tasks(outputs: Mapping[str, engine.Tensor]) -> frozenset[str]:
    found = set()
    if "image" in outputs and len(outputs["image"].shape) == 4:
        found.add(engine.ENHANCE)
    if any(len(outputs[key].shape) == rank for key, rank in (("labels", 3), ("logits", 4)) if key in outputs):
        found.add(engine.SEGMENT)
    if {_BOXES, "detection_scores", "detection_classes"} <= set(outputs):
        found.add(engine.DETECT)
    return frozenset(found)


def _signature(function: Any) -> engine.Signature:
    def tensors(specs: Mapping[str, Any]) -> dict[str, engine.Tensor]:
        return {key: _tensor(spec) for key, spec in specs.items()}

    return engine.Signature(tensors(function.structured_input_signature[1]), tensors(function.structured_outputs))


def _tensor(spec: Any) -> engine.Tensor:
    shape = tuple(-1 if size is None else size for size in spec.shape) if spec.shape.rank is not None else ()
    return engine.Tensor("str" if spec.dtype == tf.string else spec.dtype.name, shape)


def _read_facts(folder: pathlib.Path) -> dict[str, Any]:
    """What is known of a model beside its graph: `tfllv.json`, or the label map that lies with a TFOD export."""
    try:
        text = (folder / FACTS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return _read_label_map(folder)
    except OSError as error:
        raise BrokenModelError(f"{folder / FACTS_FILE}: {error.strerror}.") from None
    try:
        facts = json.loads(text)
    except ValueError as error:
        raise BrokenModelError(f"{folder / FACTS_FILE}: not JSON: {error}.") from None
    if not isinstance(facts, dict):
        raise BrokenModelError(f"{folder / FACTS_FILE}: a {type(facts).__name__} found; expected an object.")
    kept = {key: facts[key] for key in ("kind", "precision", "summary") if isinstance(facts.get(key), str)}
    classes = facts.get("classes")
    if isinstance(classes, dict) and all(key.isdecimal() for key in classes):
        kept["classes"] = {int(key): str(value) for key, value in classes.items()}
    elif isinstance(classes, list):
        first = 1 if kept.get("kind") == engine.DETECT else 0  # TFOD counts classes from 1
        kept["classes"] = {number: str(value) for number, value in enumerate(classes, first)}
    if split.FACTS in facts:
        kept[split.FACTS] = facts[split.FACTS]
    return kept if "classes" in kept else {**_read_label_map(folder), **kept}


def _read_label_map(folder: pathlib.Path) -> dict[str, Any]:
    for place in (folder, folder.parent, folder.parent.parent):
        files = sorted(place.glob("*label*map*.pbtxt"))
        if files:
            try:
                names = label_map.read(files[0])
            except (ValueError, OSError) as error:
                raise BrokenModelError(_one_line(error)) from None
            classes: dict[int, str] = {}
            for name, number in names.items():
                classes[number] = name  # a display name stands last, and is the one for people
            return {"classes": classes}
    return {}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
