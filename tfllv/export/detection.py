"""Exports a detector, TFOD's SavedModel, with the signatures that networks have here.

`serving_default` takes `image`, float32 [B, H, W, 3] in [0, 1]; `serving_bytes` takes `image_bytes`, JPEG or PNG
strings, checked before they are decoded and turned upright. Both give `detection_boxes` [B, N, 4] (ymin, xmin, ymax,
xmax, normalised), `detection_classes`, `detection_scores`, `num_detections`, and `detection_masks` where the model has
them. TFOD's graph takes one picture of 8 bits; the pictures of a batch go through it one by one.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.export import graph_header, graph_pixels, product, retell, saved_model, serving_files, signatures, verify
from tfllv.inputs import image_files
from tfllv.records import label_map
from tfllv.runner import networks

NEEDED = ("detection_boxes", "detection_classes", "detection_scores", "num_detections")
OUTPUTS = (*NEEDED, "detection_masks")
_LABEL_MAP = "label_map.pbtxt"


@dataclasses.dataclass(frozen=True)
class Source:
    """A detector as TFOD's exporter wrote it.

    Attributes:
      folder: of its `saved_model.pb`.
      loaded: the SavedModel.
      key: the name of its input, one picture [1, H, W, 3] of 0 to 255.
      dtype: of its input, uint8 or float32.
      classes: class number -> name, where a label map lies beside it.
    """

    folder: pathlib.Path
    loaded: Any
    key: str
    dtype: tf.DType
    classes: dict[int, str] | None

    @property
    def signature(self) -> Any:
        """One picture -> all that the detector says."""
        return self.loaded.signatures[signatures.FLOATS]

    @functools.cached_property
    def frozen(self) -> retell.Detector:
        """The signature with its weights as constants, for converters and for float64."""
        return retell.freeze(self.signature)

    def run(self, picture: Any) -> dict[str, tf.Tensor]:
        """Runs the detector on [1, H, W, 3] uint8."""
        return self.signature(**{self.key: tf.cast(picture, self.dtype)})

    def detect(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Runs the detector on [H, W, 3] uint8; returns `OUTPUTS` without the batch's axis."""
        outputs = self.run(pixels[None])
        return {key: outputs[key][0] for key in OUTPUTS if key in outputs}


def load(folder: str | os.PathLike[str]) -> Source:
    """Loads an exported detector.

    Args:
      folder: that of `saved_model.pb`, or the one around it that TFOD's exporter writes.

    Raises:
      FileNotFoundError: if there is no SavedModel.
      ValueError: if it is no detector, or does not take pictures.
    """
    path = pathlib.Path(folder)
    path = path if (path / "saved_model.pb").is_file() else path / "saved_model"
    if not (path / "saved_model.pb").is_file():
        raise FileNotFoundError(f"`--saved_model` must hold saved_model.pb. Received: {folder}, which does not.")
    loaded = tf.saved_model.load(str(path))
    function: Any = loaded.signatures.get(signatures.FLOATS)
    outputs = sorted(function.structured_outputs) if function is not None else []
    if not set(NEEDED) <= set(outputs):
        raise ValueError(f"`--saved_model` must be a detector, giving {', '.join(NEEDED)}. Received: {outputs}.")
    inputs = function.structured_input_signature[1]
    key, spec = next(iter(inputs.items()))
    if len(inputs) > 1 or spec.dtype not in (tf.uint8, tf.float32) or spec.shape.rank != 4:
        raise ValueError(
            f"`--saved_model` must take one picture. Received: {inputs}; export it with --input_type image_tensor."
        )
    return Source(path, loaded, key, spec.dtype, _read_classes(path))


def _read_classes(folder: pathlib.Path) -> dict[int, str] | None:
    for place in (folder, folder.parent):
        if (place / _LABEL_MAP).is_file():
            # A display name stands last, and is the one for people.
            return {number: name for name, number in label_map.read(place / _LABEL_MAP).items()}
    return None


class DetectionSignatures(tf.Module):
    """What is saved: the two signatures around a detector.

    Args:
      source: the detector.
      max_pixels: the most pixels of an encoded picture.
    """

    def __init__(self, source: Source, *, max_pixels: int):
        super().__init__(name="detection_signatures")
        self._detector = source.loaded
        found = source.signature.structured_outputs
        types = {key: tf.TensorSpec(found[key].shape[1:], found[key].dtype) for key in OUTPUTS if key in found}

        def detect_floats(image: tf.Tensor) -> dict[str, tf.Tensor]:
            pixels = networks.from_float(image, tf.uint8)
            return tf.map_fn(source.detect, pixels, fn_output_signature=types, parallel_iterations=1)

        def detect_file(data: tf.Tensor) -> dict[str, tf.Tensor]:
            data, header = graph_header.read_header(data, max_pixels)
            # TFOD takes 8 bits; a decoder of 8 bits reduces 16.
            return source.detect(graph_pixels.decode(data, header, tf.uint8)[0])

        def detect_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            return tf.map_fn(detect_file, image_bytes, fn_output_signature=types, parallel_iterations=1)

        floats = tf.TensorSpec([None, None, None, 3], tf.float32, name=contracts.IMAGE)
        strings = tf.TensorSpec([None], tf.string, name=signatures.IMAGE_BYTES)
        self.floats = tf.function(detect_floats, input_signature=[floats])
        self.bytes = tf.function(detect_bytes, input_signature=[strings])

    def signatures(self) -> dict[str, Any]:
        """Name -> concrete function, for `tf.saved_model.save`."""
        return {
            signatures.FLOATS: self.floats.get_concrete_function(),
            signatures.BYTES: self.bytes.get_concrete_function(),
        }


def export(
    source: Source,
    name: str,
    folder: str | os.PathLike[str],
    *,
    max_pixels: int | None = None,
) -> tuple[pathlib.Path, str]:
    """Writes a detector as the next version in `folder`.

    Args:
      source: the detector.
      name: of the model.
      folder: of the model; made where it is absent.
      max_pixels: the most pixels of an encoded picture, part of the graph; None: 50 million.

    Returns:
      The folder of the new version, and how well it agrees, in words.

    Raises:
      verify.MismatchError: if the written file does not find what the detector finds; nothing is left then.
      OSError: if it cannot be written; nothing is left then.
    """
    root = pathlib.Path(folder)
    max_pixels = signatures.MAX_PIXELS if max_pixels is None else max_pixels
    module = DetectionSignatures(source, max_pixels=max_pixels)
    functions = module.signatures()
    outputs = sorted(functions[signatures.FLOATS].structured_outputs)
    size = _folder_size(source.folder)
    with saved_model.writing(root) as temporary:
        tf.saved_model.save(module, str(temporary), signatures=functions)
        saved_model.write_warm_up(temporary, root)
        classes = None if source.classes is None else {str(key): value for key, value in source.classes.items()}
        facts = {"name": name, "kind": product.DETECT, "precision": "float32", "outputs": outputs}
        serving_files.write_facts(temporary, {**facts, "classes": classes, "max_pixels": max_pixels})
        verify.check_size(name, _folder_size(temporary), size // 4, "float32")
        agreement = check(source, name, temporary)
        version = saved_model.publish(temporary, root)
    weights = f"{size / 2**20:.1f} MB, as exported by the TF Object Detection API"
    saved_model.write_texts(
        version, weights=weights, agreement=agreement, outputs=outputs, encoded=outputs, max_pixels=max_pixels
    )
    return version, agreement


def check(source: Source, name: str, folder: pathlib.Path) -> str:
    """Compares with the detector as it was, both in a fresh process, on photographs; returns the agreement in words.

    Raises:
      verify.MismatchError: if it is not good enough.
    """
    pictures = [contracts.to_uint8(crop) for crop in verify.crops()]
    encoded = [image_files.encode_image(".png", picture) for picture in pictures]
    given: list[Any] = [picture[None].astype(source.dtype.as_numpy_dtype) for picture in pictures]
    written = {"kind": "saved_model", "path": folder}
    truth, floats, (strings,) = verify.run_fresh(
        [
            {"kind": "saved_model", "path": source.folder, "signature": signatures.FLOATS, "inputs": given},
            {
                **written,
                "signature": signatures.FLOATS,
                "inputs": [picture[None] / np.float32(255) for picture in pictures],
            },
            {**written, "signature": signatures.BYTES, "inputs": [encoded]},
        ]
    )
    agreements = []
    for key in sorted(floats[0]):
        for side, found in (
            ("", floats),
            (" of bytes", [{k: v[i : i + 1] for k, v in strings.items()} for i in range(3)]),
        ):
            pairs = [(one[key], expected[key]) for one, expected in zip(found, truth, strict=True)]
            agreements.append(verify.compare_all(f"{name} `{key}`{side}", pairs, "float32"))
    return ", ".join(line for line in agreements if " of bytes" not in line)


def _folder_size(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
