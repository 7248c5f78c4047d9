"""TensorFlow Serving's REST form of `predict`: a client can move to the real server without a change.

After TensorFlow Serving's REST documentation: `instances` (a row for each example) or `inputs` (a column for each
tensor), bytes as `{"b64": ...}`, `signature_name`; answered by `predictions` or `outputs`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfllv.serve import engine as engines
from tfllv.serve.engine import Engine, Signature, Tensor
from tfllv.serve.limits import Limits
from tfllv.serve.refusals import RefusalError

_FIELDS = {"signature_name", "instances", "inputs"}
_TF_TYPES = {"float32": "DT_FLOAT", "uint8": "DT_UINT8", "int32": "DT_INT32", "int64": "DT_INT64", "str": "DT_STRING"}


def parse(body: bytes, engine: Engine, limits: Limits) -> tuple[str, dict[str, np.ndarray], bool]:
    """Reads a predict request.

    Args:
      body: JSON.
      engine: whose signatures count.
      limits: `max_numbers` is used.

    Returns:
      The signature's name, its inputs (bytes as arrays of objects), and whether they came as rows.

    Raises:
      RefusalError: 400, if it is not such a request; 413, if it has too many numbers.
    """
    if body.count(b",") > limits.max_numbers:  # a list of numbers takes many times the memory of its text
        raise RefusalError(
            413, "too_large", f"The body must hold at most {limits.max_numbers:,} numbers; send pictures as bytes."
        )
    try:
        document = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RefusalError(400, "bad_json", f"The body must be JSON. Received: {str(error)[:100]}.") from None
    if not isinstance(document, dict) or set(document) - _FIELDS or len({"instances", "inputs"} & set(document)) != 1:
        raise RefusalError(400, "bad_input", "The body must hold `instances` or `inputs`, and maybe `signature_name`.")
    name = document.get("signature_name", engines.DEFAULT_SIGNATURE)
    if not isinstance(name, str) or name not in engine.signatures:
        known = ", ".join(engine.signatures)
        raise RefusalError(
            400, "unknown_signature", f"`signature_name` must be one of {known}. Received: {str(name)[:60]}."
        )
    signature = engine.signatures[name]
    rows = "instances" in document
    columns = _from_rows(document["instances"], signature) if rows else document["inputs"]
    if not isinstance(columns, dict) or _is_bytes(columns):
        columns = {_only_input(signature): columns}
    if set(columns) != set(signature.inputs):
        raise RefusalError(
            400,
            "bad_input",
            f"The inputs must be {', '.join(sorted(signature.inputs))}. Received: {', '.join(sorted(columns))[:200]}.",
        )
    return name, {key: _to_array(key, columns[key], tensor) for key, tensor in signature.inputs.items()}, rows


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} found where a finite number is expected")


def _from_rows(rows: Any, signature: Signature) -> Any:
    if not isinstance(rows, list) or not rows:
        raise RefusalError(400, "bad_input", "`instances` must be a list of at least one example.")
    if not isinstance(rows[0], dict) or _is_bytes(rows[0]):
        return rows
    if not all(isinstance(row, dict) and set(row) == set(rows[0]) for row in rows):
        raise RefusalError(400, "bad_input", "`instances` must all have the same names.")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _only_input(signature: Signature) -> str:
    if len(signature.inputs) != 1:
        raise RefusalError(400, "bad_input", f"The inputs must be named: {', '.join(sorted(signature.inputs))}.")
    return next(iter(signature.inputs))


def _is_bytes(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"}


def _to_array(name: str, value: Any, tensor: Tensor) -> np.ndarray:
    if tensor.dtype == "str":
        values = value if isinstance(value, list) else [value]
        result = np.empty(len(values), object)
        for index, item in enumerate(values):
            result[index] = _to_bytes(name, item)
        return result
    try:
        array = np.asarray(value, np.float64 if tensor.dtype.startswith("float") else np.int64)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise RefusalError(400, "bad_input", f"`{name}` must be numbers in nested lists of equal lengths.") from None
    if array.dtype.kind == "i" and tensor.dtype.startswith("uint"):
        top = np.iinfo(tensor.dtype).max
        if array.size and (array.min() < 0 or array.max() > top):
            raise RefusalError(400, "bad_input", f"`{name}` must be whole numbers from 0 to {top}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise RefusalError(400, "bad_input", f"`{name}` must be finite.")
    return array.astype(tensor.dtype)


def _to_bytes(name: str, item: Any) -> bytes:
    if not _is_bytes(item) or not isinstance(item["b64"], str):
        raise RefusalError(400, "bad_input", f'`{name}` must be bytes as {{"b64": "..."}}.')
    try:
        return base64.b64decode(item["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise RefusalError(400, "bad_input", f"`{name}` must be valid base64.") from None


def render(outputs: Mapping[str, np.ndarray], rows: bool) -> dict[str, Any]:
    """Writes the outputs as TF Serving does: in the form the inputs had; one output stands without its name."""
    columns = {name: _to_json(name, array) for name, array in outputs.items()}
    if not rows:
        return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    names = list(columns)
    return {"predictions": [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def _to_json(name: str, array: np.ndarray) -> Any:
    if array.dtype.kind not in "OS":
        return np.asarray(array, np.float32 if array.dtype.kind == "f" else array.dtype).tolist()
    items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    as_bytes = name.endswith("_bytes")  # TF Serving's rule: an output so named is written as base64
    return [{"b64": base64.b64encode(item).decode()} if as_bytes else item.decode("utf-8", "replace") for item in items]


def describe_status(versions: Mapping[int, tuple[str, str]]) -> dict[str, Any]:
    """The answer of `GET /v1/models/NAME`: version -> (state, message), newest first."""
    return {
        "model_version_status": [
            {
                "version": str(version),
                "state": state,
                "status": {"error_code": "UNKNOWN" if message else "OK", "error_message": message},
            }
            for version, (state, message) in sorted(versions.items(), reverse=True)
        ]
    }


def describe_signatures(engine: Engine) -> dict[str, Any]:
    """The answer of `GET /v1/models/NAME/metadata`."""

    def tensors(named: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            name: {
                "dtype": _TF_TYPES.get(tensor.dtype, tensor.dtype),
                "tensor_shape": {
                    "dim": [{"size": str(size), "name": ""} for size in tensor.shape],
                    "unknown_rank": False,
                },
                "name": name,
            }
            for name, tensor in named.items()
        }

    signatures = {
        name: {
            "inputs": tensors(signature.inputs),
            "outputs": tensors(signature.outputs),
            "method_name": "tensorflow/serving/predict",
        }
        for name, signature in engine.signatures.items()
    }
    return {
        "model_spec": {"name": engine.name, "signature_name": "", "version": str(engine.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }
