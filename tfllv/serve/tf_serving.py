"""A model that TensorFlow Serving computes elsewhere: pictures go to its REST form as PNG files, and come back as such.

The page and the limits stay here; the network, its versions and its batches are there. The model's `serving_bytes`
signature is used, because a picture as a list of numbers is tens of times as large as its file. After TensorFlow
Serving's REST documentation; not tried with its binary (`tests/serve/test_tf_serving.py` says with what).
"""

from __future__ import annotations

import base64
import json
import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllv.serve import engine, pictures
from tfllv.serve.limits import Limits
from tfllv.serve.refusals import RefusalError

_TYPES = {
    "DT_FLOAT": "float32",
    "DT_UINT8": "uint8",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
    "DT_STRING": "str",
}
_IMAGE = "image_bytes"
_AT_ONCE = 4  # requests to the other server
_RETRY = 5  # seconds
_LOOK = 5.0  # seconds that a look for versions may take, so that it does not hold up those of other models
_MOST = 1 << 30  # bytes of an answer
_log = logging.getLogger("tfllv.serve")


class UnreachableError(OSError):
    """The other server does not answer, or not as TensorFlow Serving does."""


class TFServingEngine(engine.Engine):
    """The version of a model that a TensorFlow Serving serves now.

    Args:
      url: of the model's REST form, such as `http://localhost:8501/v1/models/sgz`.
      name: of the model here.
      timeout: seconds that an answer may take.

    Raises:
      UnreachableError: if there is no such model, or it has no signature from encoded pictures to encoded pictures.
    """

    max_batch = 1  # the other server puts together what comes to it at once
    workers = _AT_ONCE

    def __init__(self, url: str, *, name: str, timeout: float = 60.0):
        check_url(url)
        self._url, self._timeout = url.rstrip("/"), timeout
        self.name, self.version = name, served_version(url, timeout=timeout)
        document = _ask(f"{self._url}/metadata", timeout=timeout)
        try:
            found = document["metadata"]["signature_def"]["signature_def"]
            self._signatures = {key: _signature(value) for key, value in found.items() if value.get("inputs")}
        except (KeyError, TypeError, AttributeError, ValueError):
            raise UnreachableError(f"{url}/metadata is not TensorFlow Serving's answer.") from None
        used = self._signatures.get(engine.BYTES_SIGNATURE)
        if not used or len(used.inputs) != 1 or used.outputs.get(_IMAGE, engine.Tensor("", ())).dtype != "str":
            raise UnreachableError(
                f"{url}: the signatures {sorted(self._signatures)} found; expected {engine.BYTES_SIGNATURE} with one "
                f"input and the output `{_IMAGE}`, as `tfllv export` writes it."
            )
        self.tasks = frozenset({engine.ENHANCE})
        self.facts = {"kind": "network", "summary": "computed by TensorFlow Serving", "source": "tensorflow_serving"}

    def run(self, batch: Sequence[np.ndarray]) -> list[engine.Result]:
        """Sends [H, W, 3] uint8 or uint16 pictures as PNG files of as many bits; see `Engine.run`."""
        return [engine.Result(self._enhance(pixels)) for pixels in batch]

    def _enhance(self, pixels: np.ndarray) -> np.ndarray:
        (name,) = self._signatures[engine.BYTES_SIGNATURE].inputs
        encoded = np.array([pictures.encode(pixels, pictures.Rendering())], object)
        data = self.predict(engine.BYTES_SIGNATURE, {name: encoded}, Limits())[_IMAGE][0]
        result = pictures.decode(data, Limits(max_pixels=max(1, pixels.size))).pixels
        if result.shape != pixels.shape or result.dtype != pixels.dtype:
            raise RefusalError(503, "backend", "The model's server gave a picture of another kind.", retry_after=_RETRY)
        return result

    @property
    def signatures(self) -> Mapping[str, engine.Signature]:
        """Those of the other server's model."""
        return self._signatures

    def predict(self, signature: str, inputs: Mapping[str, np.ndarray], limits: Limits) -> dict[str, np.ndarray]:
        """Passes a request on; see `Engine.predict`.

        Raises:
          RefusalError: 400 where the other server refuses the input, 503 where it does not answer.
        """
        body = {"signature_name": signature, "inputs": {key: _to_json(array) for key, array in inputs.items()}}
        try:
            outputs = _ask(f"{self._url}:predict", body, timeout=self._timeout)["outputs"]
        except UnreachableError:
            raise RefusalError(503, "backend", "The model's server does not answer.", retry_after=_RETRY) from None
        tensors = self._signatures[signature].outputs
        named = outputs if len(tensors) > 1 else {next(iter(tensors)): outputs}
        return {key: _to_array(named[key], tensor) for key, tensor in tensors.items()}


class Backend:
    """Looks, again and again, whether a model's server answers and which version it serves.

    Args:
      url: as of `TFServingEngine`.
      name: of the model here.
      timeout: seconds that an answer may take.
    """

    def __init__(self, url: str, *, name: str, timeout: float = 60.0):
        check_url(url)
        self._url, self._name, self._timeout = url, name, timeout
        self._reason = ""

    def refresh(self, current: engine.Engine | None) -> TFServingEngine | None:
        """Returns an engine if there is another version than `current`; None if not, or if the server is away."""
        try:
            version = served_version(self._url, timeout=min(self._timeout, _LOOK))
            if current and version == current.version:
                return None
            found = TFServingEngine(self._url, name=self._name, timeout=self._timeout)
        except (UnreachableError, RefusalError) as error:
            if str(error) != self._reason:  # once, not at every look
                _log.warning("backend away", extra={"fields": {"model": self._name, "reason": str(error)}})
            self._reason = str(error)
            return None
        self._reason = ""
        return found


def check_url(url: str) -> None:
    """Checks that a URL can be that of a model.

    Raises:
      ValueError: if it is not.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "/v1/models/" not in parts.path:
        raise ValueError(f"`backend` must be http://HOST:PORT/v1/models/NAME. Received: '{url}'.")


def served_version(url: str, *, timeout: float = 60.0) -> int:
    """Returns the newest version that is available there.

    Raises:
      UnreachableError: if there is none.
    """
    document = _ask(url.rstrip("/"), timeout=timeout)
    try:
        states = document["model_version_status"]
        return max(int(one["version"]) for one in states if one["state"] == "AVAILABLE")
    except (KeyError, TypeError, ValueError):
        raise UnreachableError(f"{url} serves no version.") from None


def _ask(url: str, body: Any = None, *, timeout: float) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.loads(answer.read(_MOST))
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(2000).decode("utf-8", "replace")
        if 400 <= error.code < 500 and error.code != 429 and data:
            raise RefusalError(400, "bad_input", f"The model refused its input: {text[:300]}") from None
        raise UnreachableError(f"{url} answered {error.code}.") from None
    except (OSError, ValueError) as error:
        raise UnreachableError(f"{url}: {error}") from None


def _signature(document: Mapping[str, Any]) -> engine.Signature:
    def tensors(named: Mapping[str, Any]) -> dict[str, engine.Tensor]:
        return {
            key: engine.Tensor(
                _TYPES.get(value["dtype"], value["dtype"]),
                tuple(int(size["size"]) for size in value["tensor_shape"]["dim"]),
            )
            for key, value in named.items()
        }

    return engine.Signature(tensors(document["inputs"]), tensors(document["outputs"]))


def _to_json(array: np.ndarray) -> Any:
    if array.dtype.kind == "O":
        return [{"b64": base64.b64encode(item).decode()} for item in array.ravel()]
    return array.tolist()


def _to_array(value: Any, tensor: engine.Tensor) -> np.ndarray:
    if tensor.dtype != "str":
        return np.asarray(value, tensor.dtype)
    result = np.empty(len(value), object)
    for index, item in enumerate(value):
        result[index] = base64.b64decode(item["b64"]) if isinstance(item, dict) else str(item).encode()
    return result
