"""An export answers TF Serving's requests, over gRPC and REST, from `tools/serve_saved_model.py`."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2, prediction_service_pb2_grpc

from tfllv.export import serving_files
from tfllv.inputs import image_files


@pytest.fixture(scope="module")
def running(exported, server):
    model = server.Model(exported[0])
    rest, rpc = server.start(model, rest_port=0, grpc_port=0)
    yield model, f"http://127.0.0.1:{rest.server_port}/v1/models/night", f"127.0.0.1:{rpc.port}"
    rest.shutdown()
    rest.server_close()
    rpc.stop(None).wait()


@pytest.fixture(scope="module")
def call(running):
    with grpc.insecure_channel(running[2]) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def request_of(signature, **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "night", signature
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    return request


def post(url, body):
    request = urllib.request.Request(f"{url}:predict", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_warm_up_requests_are_prediction_logs_and_replay(exported, running):
    path = exported[0] / "1" / serving_files.WARM_UP
    logs = [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in tf.data.TFRecordDataset(str(path))]
    specs = [log.predict_log.request.model_spec for log in logs]
    assert [spec.signature_name for spec in specs] == ["serving_default", "serving_bytes", "serving_bytes"]
    assert {spec.name for spec in specs} == {"night"}
    assert running[0].replay_warm_up() == 3


def test_grpc_answers_both_signatures_alike(call, encoded):
    data = encoded.good()["turned_6"]
    pixels = image_files.read_image(data).pixels
    floats = call(request_of("serving_default", image=(pixels[None] / 255).astype(np.float32)), timeout=60)
    strings = call(request_of("serving_bytes", image_bytes=[data, data]), timeout=60)
    image = tf.make_ndarray(floats.outputs["image"])[0]
    pictures = [image_files.read_image(value).pixels for value in tf.make_ndarray(strings.outputs["image_bytes"])]
    assert len(pictures) == 2 and floats.model_spec.version.value == 1
    for found in pictures:
        assert np.abs(found / 255 - image).max() <= 0.501 / 255


def test_grpc_refuses_a_bomb_with_invalid_argument(call, encoded):
    for name, words in (("bomb", "20000x20000"), ("gif", "neither JPEG nor PNG"), ("lying_jpeg", "its header lies")):
        with pytest.raises(grpc.RpcError) as error:
            call(request_of("serving_bytes", image_bytes=[encoded.bad()[name][0]]), timeout=60)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert words in error.value.details()
    request = request_of("serving_bytes", image_bytes=[b""])
    request.model_spec.name = "day"
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=60)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


def test_rest_answers_rows_and_columns_in_base64(running, encoded):
    data = encoded.good()["turned_3"]
    item = {"b64": base64.b64encode(data).decode()}
    rows = post(running[1], {"signature_name": "serving_bytes", "instances": [item, {"image_bytes": item}][:1]})
    named = post(running[1], {"signature_name": "serving_bytes", "instances": [{"image_bytes": item}]})
    columns = post(running[1], {"signature_name": "serving_bytes", "inputs": {"image_bytes": [item]}})
    assert rows["predictions"] == named["predictions"] == columns["outputs"]
    found = image_files.read_image(base64.b64decode(rows["predictions"][0]["b64"]))
    assert found.pixels.shape == (43, 61, 3)
    floats = post(f"{running[1]}/versions/1", {"instances": [[[[0.1, 0.2, 0.3]] * 4] * 5]})
    assert np.asarray(floats["predictions"]).shape == (1, 5, 4, 3)


def test_rest_refuses_in_json(running, encoded):
    item = {"b64": base64.b64encode(encoded.bad()["bomb"][0]).decode()}
    with pytest.raises(urllib.error.HTTPError) as error:
        post(running[1], {"signature_name": "serving_bytes", "instances": [item]})
    with error.value as answer:
        assert answer.code == 400
        assert "a PNG of 20000x20000 pixels found" in json.load(answer)["error"]
