"""Answers TF Serving's requests from an exported folder, over gRPC and REST, without TF Serving's binary.

    python tools/serve_saved_model.py serving/sgz [--rest_port 8501] [--grpc_port 8500]

The newest version is loaded and its warm-up requests are replayed; then `Predict` of the prediction service and
`POST /v1/models/NAME:predict` (rows or columns, strings in base64 where a name ends in `_bytes` or they come as
`{"b64": ...}`) are answered from its signatures. It is there to show that an export answers such requests: it loads one
version, batches nothing and trusts its clients. `tfllv serve` and TF Serving are for more than that.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import http.server
import json
import pathlib
import re
import threading
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

_WARM_UP = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"
_MAX_MESSAGE = 256 << 20


class Model:
    """The newest version in a model's folder, as TF Serving finds it."""

    def __init__(self, folder: pathlib.Path):
        versions = [path for path in folder.iterdir() if path.name.isdecimal()]
        if not versions:
            raise FileNotFoundError(f"{folder}: no version (a folder whose name is a number) is there.")
        self.folder = max(versions, key=lambda path: int(path.name))
        self.name, self.version = folder.resolve().name, int(self.folder.name)
        self._loaded = tf.saved_model.load(str(self.folder))

    def replay_warm_up(self) -> int:
        """Runs the warm-up requests as TF Serving does before a version is ready; returns how many."""
        count = 0
        for record in tf.data.TFRecordDataset(str(self.folder / _WARM_UP)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            self.predict(log.predict_log.request)
            count += 1
        return count

    def predict(self, request: Any) -> Any:
        """Answers a PredictRequest.

        Raises:
          KeyError: if the model, version, signature or an input is unknown.
          tf.errors.InvalidArgumentError: if the model refuses its input.
        """
        spec = request.model_spec
        if spec.name != self.name or (spec.HasField("version") and spec.version.value != self.version):
            raise KeyError(f"Servable not found for request: {spec.name}, version {spec.version.value or 'any'}")
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.version.value = self.name, self.version
        for key, value in self.run(spec.signature_name or "serving_default", inputs).items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return response

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature; errors as `predict`."""
        function = self._loaded.signatures[signature]
        specs = function.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise KeyError(f"inputs {sorted(inputs)} found; {signature} expects {sorted(specs)}")
        tensors = {key: tf.constant(value, specs[key].dtype) for key, value in inputs.items()}
        return {key: value.numpy() for key, value in function(**tensors).items()}

    def predict_json(self, body: Any) -> dict[str, Any]:
        """Answers TF Serving's REST form: `instances` (rows) or `inputs` (columns); errors as `predict`."""
        signature = body.get("signature_name", "serving_default")
        names = list(self._loaded.signatures[signature].structured_input_signature[1])
        rows = body.get("instances")
        if rows is None:
            columns = body["inputs"] if isinstance(body["inputs"], dict) else {names[0]: body["inputs"]}
        elif isinstance(rows[0], dict) and set(rows[0]) == set(names):
            columns = {name: [row[name] for row in rows] for name in names}
        else:
            columns = {names[0]: rows}
        found = self.run(signature, {name: np.asarray(_from_json(value)) for name, value in columns.items()})
        results = {key: _to_json(value.tolist(), key.endswith("_bytes")) for key, value in found.items()}
        if rows is None:
            return {"outputs": results if len(results) > 1 else next(iter(results.values()))}
        if len(results) == 1:
            return {"predictions": next(iter(results.values()))}
        keys = list(results)
        return {"predictions": [dict(zip(keys, row, strict=True)) for row in zip(*results.values(), strict=True)]}


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"b64"}:
        return base64.b64decode(value["b64"], validate=True)
    return [_from_json(item) for item in value] if isinstance(value, list) else value


def _to_json(value: Any, encoded: bool) -> Any:
    if isinstance(value, list):
        return [_to_json(item, encoded) for item in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()} if encoded else value.decode()
    return value


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`Predict` of TF Serving's prediction service."""

    def __init__(self, model: Model):
        self._model = model

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Answers one request."""
        try:
            return self._model.predict(request)
        except KeyError as error:
            context.abort(grpc.StatusCode.NOT_FOUND, str(error.args[0]))
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, _one_line(error))


def rest_handler(model: Model) -> type[http.server.BaseHTTPRequestHandler]:
    """Makes the handler of the REST interface."""
    path = re.compile(rf"/v1/models/{re.escape(model.name)}(/versions/{model.version})?:predict")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if not path.fullmatch(self.path):
                return self._answer(404, {"error": f"no such model or version: {self.path}"})
            try:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                return self._answer(200, model.predict_json(body))
            except (tf.errors.InvalidArgumentError, ValueError, TypeError, KeyError) as error:
                return self._answer(400, {"error": _one_line(error)})

        def do_GET(self) -> None:
            version = {"version": str(model.version), "state": "AVAILABLE", "status": {"error_code": "OK"}}
            known = self.path == f"/v1/models/{model.name}"
            self._answer(200 if known else 404, {"model_version_status": [version]} if known else {"error": self.path})

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            """Logs nothing."""

    return Handler


def _one_line(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", error)).split())[:500]


def start(model: Model, *, rest_port: int, grpc_port: int) -> tuple[http.server.ThreadingHTTPServer, grpc.Server]:
    """Starts both servers on this machine alone; port 0 takes a free one. `server_port` and `port` say which."""
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", rest_port), rest_handler(model))
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    sizes = [("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.max_send_message_length", _MAX_MESSAGE)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=sizes)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(model), server)
    server.port = server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    server.start()
    return rest, server


def main() -> None:
    """Serves until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="a model's folder, written by `tfllv export`")
    parser.add_argument("--rest_port", type=int, default=8501)
    parser.add_argument("--grpc_port", type=int, default=8500)
    args = parser.parse_args()
    model = Model(args.folder)
    print(f"{model.folder}: {model.replay_warm_up()} warm-up requests replayed", flush=True)
    rest, server = start(model, rest_port=args.rest_port, grpc_port=args.grpc_port)
    print(
        f"REST http://127.0.0.1:{rest.server_port}/v1/models/{model.name}:predict, gRPC port {server.port}", flush=True
    )
    server.wait_for_termination()


if __name__ == "__main__":
    main()
