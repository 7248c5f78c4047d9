from __future__ import annotations

import numpy as np
import pytest

from tfllv.serve import predict


def post(client, content, name="toy"):
    return client.post(f"/v1/models/{name}:predict", json=content)


def test_rows_are_answered_by_predictions_and_columns_by_outputs(client):
    ask = client()
    image = [[[0.5, 0.25, 1.0]]]
    assert post(ask, {"instances": [image]}).json == {"predictions": [[[[0.25, 0.125, 0.5]]]]}
    assert post(ask, {"instances": [{"image": image}]}).json == {"predictions": [[[[0.25, 0.125, 0.5]]]]}
    assert post(ask, {"inputs": [image]}).json == {"outputs": [[[[0.25, 0.125, 0.5]]]]}
    assert post(ask, {"inputs": {"image": [image]}}).json == {"outputs": [[[[0.25, 0.125, 0.5]]]]}


def test_bytes_travel_in_base64_both_ways(client, toy):
    ask, data = client(), toy.b64(toy.png())
    for row in (data, {"image_bytes": data}):
        answer = post(ask, {"signature_name": "serving_bytes", "instances": [row, row]})
        assert answer.json == {"predictions": [data, data]}
    answer = post(ask, {"signature_name": "serving_bytes", "inputs": {"image_bytes": [data]}})
    assert answer.json == {"outputs": [data]}


def test_several_outputs_are_named():
    outputs = {"a": np.array([[1.0], [2.0]], np.float32), "b_bytes": np.array([b"x", b"y"], object)}
    rows = predict.render(outputs, rows=True)
    assert rows == {"predictions": [{"a": [1.0], "b_bytes": {"b64": "eA=="}}, {"a": [2.0], "b_bytes": {"b64": "eQ=="}}]}
    assert predict.render(outputs, rows=False)["outputs"]["a"] == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("content", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"instances": []}, 400),
        ({"instances": [1], "inputs": [1]}, 400),
        ({"instances": [1], "other": 1}, 400),
        ({"instances": ["text"]}, 400),
        ({"instances": [[[[1, 2]]]]}, 400),
        ({"instances": [[[[1, 2, 3]], [[1, 2, 3], [1, 2, 3]]]]}, 400),
        ({"instances": [{"image": [[[1, 2, 3]]]}, {"other": 1}]}, 400),
        ({"inputs": {"other": 1}}, 400),
        ({"signature_name": "no", "instances": [1]}, 400),
        ({"signature_name": ["x"], "instances": [1]}, 400),
        ({"signature_name": "serving_bytes", "instances": [{"b64": "?"}]}, 400),
        ({"signature_name": "serving_bytes", "instances": [{"b64": 3}]}, 400),
        ({"signature_name": "serving_bytes", "instances": ["plain"]}, 400),
        ({"signature_name": "serving_bytes", "instances": [{"b64": "aGVsbG8="}]}, 415),
    ],
)
def test_wrong_requests_are_refused_in_json(content, status, client):
    answer = post(client(), content)
    assert answer.status_code == status
    assert set(answer.json) == {"error", "detail"}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[" * 100_000, b'{"instances": [[[[NaN, 1, 1]]]]}', b"\xff\xfe{}", b"1" * 5000]
)
def test_what_is_not_json_is_refused(body, client):
    answer = client().post("/v1/models/toy:predict", data=body, content_type="application/json")
    assert answer.status_code == 400 and set(answer.json) == {"error", "detail"}


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" + "0" * 400])
def test_numbers_beyond_float_are_refused(number, client):
    answer = client().post("/v1/models/toy:predict", data=f'{{"instances": [[[[{number}, 1, 1]]]]}}')
    assert answer.status_code == 400


def test_pixels_and_pictures_are_limited(client, toy):
    ask = client(max_pixels=3, max_files=2)
    assert post(ask, {"instances": [[[[0, 0, 0]] * 4]]}).status_code == 413
    assert post(ask, {"instances": [[[[0, 0, 0]]]] * 3}).status_code == 413
    answer = post(ask, {"signature_name": "serving_bytes", "instances": [toy.b64(toy.png())]})
    assert (answer.status_code, answer.json["error"]) == (413, "too_many_pixels")


def test_numbers_are_counted_before_they_take_memory(client):
    ask = client(max_numbers=11)
    assert post(ask, {"instances": [[[[0, 0, 0]] * 3]]}).status_code == 200
    answer = post(ask, {"instances": [[[[0, 0, 0]] * 5]]})
    assert (answer.status_code, answer.json["error"]) == (413, "too_large")


def test_status_versions_and_signatures_are_told_as_tf_serving_tells_them(client):
    ask = client()
    (status,) = ask.get("/v1/models/toy").json["model_version_status"]
    assert status == {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert ask.get("/v1/models/toy/versions/1").status_code == 200
    assert ask.get("/v1/models/toy/versions/2").status_code == 404
    assert ask.get("/v1/models/none").status_code == 404
    content = ask.get("/v1/models/toy/metadata").json
    assert content["model_spec"]["version"] == "1"
    signature = content["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image"]["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in signature["inputs"]["image"]["tensor_shape"]["dim"]] == ["-1", "-1", "-1", "3"]
    image = {"instances": [[[[0, 0, 0]]]]}
    assert ask.post("/v1/models/toy/versions/1:predict", json=image).status_code == 200
    assert ask.post("/v1/models/toy/versions/7:predict", json=image).status_code == 404
    assert ask.post("/v1/models/none:predict", json=image).status_code == 404
