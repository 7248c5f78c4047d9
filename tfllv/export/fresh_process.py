"""Runs an exported file as a stranger would: a script for `python -I`, without this package.

    python -I fresh_process.py FOLDER

FOLDER holds `calls.json`, a list of {"kind": saved_model | litert | onnx, "path", "signature", "inputs": [one .npy file
a call, or a list of files to be passed as strings]}. Each result is written to `result-<call>-<input>.npz`.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

Runner = Callable[[Any], dict[str, np.ndarray]]


def main(folder: pathlib.Path) -> None:
    """Runs every call of `calls.json`."""
    for number, call in enumerate(json.loads((folder / "calls.json").read_text())):
        run = {"saved_model": saved_model, "litert": litert, "onnx": onnx}[call["kind"]](call)
        for index, source in enumerate(call["inputs"]):
            given = (
                [pathlib.Path(path).read_bytes() for path in source] if isinstance(source, list) else np.load(source)
            )
            results: dict[str, Any] = dict(run(given))
            np.savez(folder / f"result-{number}-{index}.npz", **results)
    assert "tfllv" not in sys.modules, "an exported file must need nothing of tfllv"


def saved_model(call: dict[str, Any]) -> Runner:
    """Loads a SavedModel; strings that come out are PNG files, and are decoded."""
    import tensorflow as tf

    loaded = _LOADED.setdefault(call["path"], None) or tf.saved_model.load(call["path"])
    _LOADED[call["path"]] = loaded
    signature = loaded.signatures[call["signature"]]
    (name,) = signature.structured_input_signature[1]

    def run(given: Any) -> dict[str, np.ndarray]:
        found = {}
        for key, value in signature(**{name: tf.constant(given)}).items():
            if value.dtype == tf.string:
                pictures = {
                    f"{key}-{index}": tf.io.decode_png(data).numpy() for index, data in enumerate(value.numpy())
                }
                found.update(pictures)
            else:
                found[key] = value.numpy()
        return found

    return run


_LOADED: dict[str, Any] = {}


def litert(call: dict[str, Any]) -> Runner:
    """Loads a LiteRT file; the input is resized to what is given."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=call["path"])

    def run(given: Any) -> dict[str, np.ndarray]:
        runner = interpreter.get_signature_runner(call["signature"])
        (name,) = runner.get_input_details()
        return dict(runner(**{name: given}))

    return run


def onnx(call: dict[str, Any]) -> Runner:
    """Loads an ONNX file."""
    import onnxruntime

    session = onnxruntime.InferenceSession(call["path"], providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(given: Any) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(None, {session.get_inputs()[0].name: given}), strict=True))

    return run


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
