"""ONNX files, by tf2onnx (extra `[onnx]`)."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile

import tensorflow as tf

from tfllv import contracts
from tfllv.export import detection, detector_files, plain, product, signatures, verify
from tfllv.inputs import image_files

SUFFIX = ".onnx"
OPSET = 17


def export(
    what: product.Product, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> tuple[pathlib.Path, str]:
    """Writes `folder/NAME.onnx`, float32: input `low` [B, H, W, 3] in [0, 1], output `image` and maybe more.

    The input is not called `image` too, because names in an ONNX graph are unique.

    Args:
      what: the network, in float32.
      folder: made where it is absent.
      overwrite: whether a file of that name may be replaced.

    Returns:
      The file, and how well it agrees, in words.

    Raises:
      ValueError: if the extra is not installed.
      verify.MismatchError: if the file does not give what the network gives; it is not written then.
      OSError: if the file exists or cannot be written.
    """
    path = pathlib.Path(folder) / f"{what.name}{SUFFIX}"
    verify.check_absent(path, overwrite=overwrite)
    data = convert(what)
    agreement = verify.check_file(what, data, kind="onnx", precision="float32")
    path.parent.mkdir(parents=True, exist_ok=True)
    image_files.write_bytes(path, data)
    return path, agreement


def export_detector(
    source: detection.Source, name: str, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> tuple[pathlib.Path, str]:
    """Writes a detector as `folder/NAME.onnx`: input `image` [1, H, W, 3] float32 in [0, 1], TFOD's outputs.

    Args:
      source: the detector.
      name: of the file.
      folder: made where it is absent.
      overwrite: whether a file of that name may be replaced.

    Returns:
      The file, and how well it agrees, in words.

    Raises:
      ValueError: if the extra is not installed, or the graph cannot be converted.
      verify.MismatchError: if the file does not find what the detector finds; it is not written then.
      OSError: if the file exists or cannot be written.
    """
    check_installed()
    path = pathlib.Path(folder) / f"{name}{SUFFIX}"
    verify.check_absent(path, overwrite=overwrite)
    with detector_files.straightened(source) as folder, tempfile.TemporaryDirectory() as work:
        file = pathlib.Path(work) / path.name
        # By its command: its functions lose the variables of a graph that was itself loaded.
        command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(folder), "--tag", "serve"]
        command += ["--signature_def", signatures.FLOATS, "--opset", str(OPSET), "--output", str(file)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not file.is_file():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ValueError(f"tf2onnx cannot convert '{source.folder}': {last[:300]}")
        return path, detector_files.publish(source, name, file, path, kind="onnx")


def check_installed() -> None:
    """Checks that the extra is there.

    Raises:
      ValueError: if it is not; the line says what to install.
    """
    for package in ("tf2onnx", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"ONNX needs {package}, which is not installed; call: pip install 'tfllv[onnx]'")


def convert(what: product.Product) -> bytes:
    """Converts a network to the content of an ONNX file; nothing is compared.

    Raises:
      ValueError: if the extra is not installed.
    """
    check_installed()
    import tf2onnx

    graph = plain.PlainGraph(what, name=contracts.LOW, batch=None)
    spec = [tf.TensorSpec([None, None, None, 3], tf.float32, name=contracts.LOW)]
    model, _ = tf2onnx.convert.from_function(graph.function, input_signature=spec, opset=OPSET)
    return model.SerializeToString()
