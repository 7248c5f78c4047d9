"""LiteRT files (`.tflite`) for phones and small machines: float32, float16 weights, or int8."""

from __future__ import annotations

import os
import pathlib
import re
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from tfllv import contracts
from tfllv.export import detection, detector_files, plain, product, signatures, verify
from tfllv.inputs import files, image_files

PRECISIONS = ("float32", "float16", "int8", "int8_dynamic")
SUFFIX = ".tflite"
# What stays float32 under `int8`: all but the convolutions. A picture that goes through eight products of 8 bits, as
# in a curve network, is 20 dB worse than one whose curve alone was predicted in 8 bits.
_IN_FLOAT = "ABS ADD BATCH_MATMUL CAST DIV EXP EXPAND_DIMS GATHER LOG LOGISTIC MAXIMUM MEAN MINIMUM MUL NEG PACK"
_IN_FLOAT += " REDUCE_MAX RELU_0_TO_1 RESHAPE RSQRT SELECT_V2 SOFTMAX SPLIT SQRT SQUARED_DIFFERENCE STRIDED_SLICE SUB"
_IN_FLOAT += " SUM TANH TRANSPOSE"
# So do the first of the convolutions: a dark picture fills little of their range. `mirnet_small` gains 6 dB.
_FIRST_IN_FLOAT = 1 / 6
_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")
# Calibration looks at ranges, which small copies have as well.
_CALIBRATION_SIDE = 256
_CALIBRATION_IMAGES = 100


def export(
    what: product.Product,
    folder: str | os.PathLike[str],
    *,
    precision: str = "float32",
    calibration: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> tuple[pathlib.Path, str]:
    """Writes `folder/NAME-PRECISION.tflite`; signature `serving_default`, `image` [1, H, W, 3] -> `image` and more.

    The interpreter takes any H and W: `get_signature_runner()(image=...)` resizes by itself.

    Args:
      what: the network, in float32.
      folder: made where it is absent.
      precision: `float32`; `float16` of the weights; `int8` of the convolutions' weights and activations, whose ranges
        come from calibration pictures; `int8_dynamic` of the weights, and of activations by the range that each picture
        has, which some networks need. In and out it is float32 always.
      calibration: a folder of pictures like those to come, for `int8`; None: the bundled photographs.
      overwrite: whether a file of that name may be replaced.

    Returns:
      The file, and how well it agrees, in words.

    Raises:
      ValueError: if the precision is unknown or the calibration folder holds no picture.
      verify.MismatchError: if the file does not give what the network gives; it is not written then.
      OSError: if the file exists or cannot be written.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"`precision` must be one of {', '.join(PRECISIONS)} for LiteRT. Received: precision='{precision}'."
        )
    path = pathlib.Path(folder) / f"{what.name}-{precision}{SUFFIX}"
    verify.check_absent(path, overwrite=overwrite)
    images = calibration_images(calibration) if precision == "int8" else []
    data = convert(what, precision, images)
    agreement = verify.check_file(what, data, kind="litert", signature=signatures.FLOATS, precision=precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    image_files.write_bytes(path, data)
    return path, agreement


def export_detector(
    source: detection.Source, name: str, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> tuple[pathlib.Path, str]:
    """Writes a detector as `folder/NAME-float32.tflite`: `image` [1, H, W, 3] float32 in [0, 1] -> TFOD's outputs.

    Boxes are suppressed by LiteRT's own kernel, in the file: it needs neither custom nor TensorFlow operations.

    Args:
      source: the detector.
      name: of the file.
      folder: made where it is absent.
      overwrite: whether a file of that name may be replaced.

    Returns:
      The file, and how well it agrees, in words.

    Raises:
      ValueError: if the graph cannot be converted.
      verify.MismatchError: if the file does not find what the detector finds; it is not written then.
      OSError: if the file exists or cannot be written.
    """
    path = pathlib.Path(folder) / f"{name}-float32{SUFFIX}"
    verify.check_absent(path, overwrite=overwrite)
    with tempfile.TemporaryDirectory() as work:
        file = pathlib.Path(work) / path.name
        file.write_bytes(convert_detector(source))
        return path, detector_files.publish(source, name, file, path, kind="litert")


def convert_detector(source: detection.Source) -> bytes:
    """Converts a detector to the content of a LiteRT file; nothing is compared.

    Raises:
      ValueError: if LiteRT lacks kernels for it.
    """
    with detector_files.straightened(source) as folder:
        converter: Any = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[signatures.FLOATS])
        try:
            return converter.convert()
        except Exception as error:  # the converter's own type is not public
            lacking = re.search(r"ops: (?!https:)(.+)", str(error))
            what = lacking.group(1) if lacking else str(error).strip().splitlines()[-1][:200]
            raise ValueError(f"LiteRT cannot run '{source.folder}': it lacks kernels for {what}.") from error


def convert(what: product.Product, precision: str, images: Sequence[np.ndarray] = ()) -> bytes:
    """Converts a network; nothing is compared.

    Args:
      what: the network.
      precision: one of `PRECISIONS`.
      images: [H, W, 3] float32 in [0, 1], for `int8`.

    Returns:
      The content of a LiteRT file.
    """
    with plain.saved(what) as folder:
        converter: Any = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=[signatures.FLOATS])
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if precision != "int8":
            return converter.convert()
        names = _convolutions(convert(what, "float32"))
        return _calibrated(converter, images, names[: round(len(names) * _FIRST_IN_FLOAT)])


def _convolutions(data: bytes) -> list[str]:
    """Returns the names of what the convolutions of a LiteRT file give, in the order in which they run."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    names = {tensor["index"]: tensor["name"] for tensor in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()  # what TensorFlow's own quantization debugger asks
    return [names[each["outputs"][0]] for each in operations if each["op_name"] in _CONVOLUTIONS]


def _calibrated(converter: Any, images: Sequence[np.ndarray], in_float: Sequence[str]) -> bytes:
    """Converts to int8 but for `_IN_FLOAT` and the operations that give `in_float`.

    The class that takes such lists is meant for debugging, and has to do.
    """

    def representative() -> Iterator[list[np.ndarray]]:
        return ([image[None]] for image in images)

    converter.representative_dataset = representative
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_ops=_IN_FLOAT.split(), denylisted_nodes=list(in_float)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it makes an interpreter of the old kind, which says that it is old
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_dataset=representative, debug_options=options
        )
    return debugger.get_nondebug_quantized_model()


def calibration_images(folder: str | os.PathLike[str] | None = None) -> list[np.ndarray]:
    """Reads pictures for the calibration of `int8`, at most 256 pixels a side; the bundled ones by default.

    Raises:
      ValueError: if the folder holds no picture that can be read.
    """
    paths = files.find_images(str(folder or verify.SAMPLES), name="calibration", option="--calibration")
    found = []
    for path in paths[:: max(1, len(paths) // _CALIBRATION_IMAGES)][:_CALIBRATION_IMAGES]:
        pixels = image_files.read_image(path).pixels
        scale = min(1.0, _CALIBRATION_SIDE / max(pixels.shape))
        small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found.append(contracts.to_float(small))
    return found
