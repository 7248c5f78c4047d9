"""ONNX files, by tf2onnx (extra `[onnx]`)."""

from __future__ import annotations

import os
import pathlib

import tensorflow as tf

from tfllv import contracts
from tfllv.export import plain, product, verify
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


def convert(what: product.Product) -> bytes:
    """Converts a network to the content of an ONNX file; nothing is compared.

    Raises:
      ValueError: if the extra is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx
    except ImportError as error:
        raise ValueError(f"ONNX needs {error.name}, which is not installed; call: pip install 'tfllv[onnx]'") from None
    graph = plain.PlainGraph(what, name=contracts.LOW, batch=None)
    spec = [tf.TensorSpec([None, None, None, 3], tf.float32, name=contracts.LOW)]
    model, _ = tf2onnx.convert.from_function(graph.function, input_signature=spec, opset=OPSET)
    return model.SerializeToString()
