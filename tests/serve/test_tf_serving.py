"""A model behind TensorFlow Serving's REST form. The other server is this project's own, which speaks that form.

What this does not show: TensorFlow Serving's binary itself, of which there is no package.
"""

from __future__ import annotations

import argparse
import base64
import io
import json

import numpy as np
import pytest

from tfllv.commands import serve
from tfllv.serve import engine, registry, request_log, service, tf_serving
from tfllv.serve.app import create_app
from tfllv.serve.limits import Limits


@pytest.fixture
def behind(server):
    """The other server, with a real method."""
    return server(engine.EnhancerEngine("clahe"))


def url_of(running, name="clahe"):
    return f"http://127.0.0.1:{running.port}/v1/models/{name}"


def make_front(url, **limits):
    found = registry.Registry({}, backends={"far": url}, limits=Limits(**limits), poll=0)
    found.load()
    return service.Service(found, log=request_log.RequestLog(None))


@pytest.fixture
def front():
    """Makes a service with one model, which is elsewhere: `front(url)`; returns it with a client."""
    made = []

    def make(url, **limits):
        made.append(make_front(url, **limits))
        return made[-1], create_app(made[-1]).test_client()

    yield make
    for one in made:
        one.registry.close()


def post(client, data, path="/enhance"):
    return client.post(path, data={"image": (io.BytesIO(data), "a.png")})


def test_a_picture_goes_there_and_comes_back_as_if_it_were_here(behind, front, toy):
    core, client = front(url_of(behind))
    photo = toy.png(toy.picture(50, 70))
    answer = post(client, photo)
    assert (answer.status_code, answer.headers["X-Model"], answer.headers["X-Model-Version"]) == (200, "far", "1")
    assert answer.data == behind.post(data=photo)[2]
    assert core.describe()["models"][0]["source"] == "tensorflow_serving"
    assert core.describe()["defaults"]["enhance"] == "far"


def test_alpha_and_strength_stay_here(behind, front, toy):
    _, client = front(url_of(behind))
    photo = toy.png(toy.picture(50, 70, channels=4))
    assert post(client, photo, "/enhance?strength=0.5").data == behind.post("/enhance?strength=0.5", photo)[2]


def test_predict_requests_are_passed_on(behind, front, toy):
    _, client = front(url_of(behind))
    body = {"signature_name": "serving_bytes", "instances": [toy.b64(toy.png()), toy.b64(toy.png(toy.picture(9, 9)))]}
    answer = client.post("/v1/models/far:predict", json=body).json
    there = behind.connect()
    there.request("POST", "/v1/models/clahe:predict", json.dumps(body))
    assert answer == json.loads(there.getresponse().read())
    there.close()
    pixels = toy.decode(base64.b64decode(answer["predictions"][1]["b64"]))
    assert pixels.shape == (9, 9, 3)
    numbers = client.post("/v1/models/far:predict", json={"instances": np.full((1, 2, 3, 3), 0.25).tolist()})
    assert np.shape(numbers.json["predictions"]) == (1, 2, 3, 3)


def test_what_the_other_server_refuses_is_refused_here(behind, front, toy):
    _, client = front(url_of(behind))
    body = {"signature_name": "serving_bytes", "inputs": [toy.b64(toy.png()[:60])]}
    answer = client.post("/v1/models/far:predict", json=body)
    assert 400 <= answer.status_code < 500


def test_why_a_server_is_away_is_logged_once(caplog):
    backend = tf_serving.Backend("http://127.0.0.1:9/v1/models/x", name="far")
    assert [backend.refresh(None) for _ in range(3)] == [None] * 3
    (record,) = caplog.records
    assert record.fields["model"] == "far" and "127.0.0.1:9" in record.fields["reason"]


def test_a_server_that_comes_later_is_taken_up_and_one_that_goes_is_said_to_be_away(server, front, toy):
    first = server(toy.Brighten())
    url, port = url_of(first, "toy"), first.port
    _, client = front(url)
    assert post(client, toy.png()).status_code == 200
    first.close()
    answer = post(client, toy.png())
    assert (answer.status_code, answer.json["error"]) == (503, "backend")
    assert int(answer.headers["Retry-After"]) >= 1
    late = f"http://127.0.0.1:{port}/v1/models/toy"
    waiting, ask = front(late)
    assert not waiting.ready and post(ask, toy.png()).json["error"] == "loading"
    other = server(toy.Brighten(version=3))
    waiting.registry.models["far"].backend = tf_serving.Backend(url_of(other, "toy"), name="far")
    waiting.registry.refresh(waiting.registry.models["far"])
    assert post(ask, toy.png()).headers["X-Model-Version"] == "3"


def test_a_new_version_there_is_shown_here(server, front, toy):
    running = server(toy.Brighten())
    core, client = front(url_of(running, "toy"))
    before = core.registry.models["far"].engine
    core.registry.refresh(core.registry.models["far"])
    assert core.registry.models["far"].engine is before
    running.service.registry.models["toy"].engine = toy.Brighten(version=2)
    core.registry.refresh(core.registry.models["far"])
    assert post(client, toy.png()).headers["X-Model-Version"] == "2"


def test_a_model_without_bytes_in_and_out_is_not_served(server, toy):
    class Numbers(toy.Brighten):
        @property
        def signatures(self):
            return {"serving_default": super().signatures["serving_default"]}

    running = server(Numbers())
    with pytest.raises(tf_serving.UnreachableError, match="serving_bytes"):
        tf_serving.TFServingEngine(url_of(running, "toy"), name="far")
    with pytest.raises(tf_serving.UnreachableError, match="404"):
        tf_serving.TFServingEngine(url_of(running, "nobody"), name="far")


def test_a_picture_of_another_size_is_refused(server, front, toy):
    class Cropping(toy.Brighten):
        def predict(self, signature, inputs, limits):
            return {"image_bytes": np.array([toy.png(toy.picture(5, 5))], object)}

    _, client = front(url_of(server(Cropping()), "toy"))
    assert post(client, toy.png()).json["error"] == "backend"


@pytest.mark.parametrize("url", ["localhost:8501", "file:///v1/models/a", "http://host/other", "http:///v1/models/a"])
def test_an_address_that_cannot_be_a_model_is_refused(url):
    with pytest.raises(ValueError, match="backend"):
        tf_serving.check_url(url)


def test_the_command_line_names_backends():
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    args = parser.parse_args(["--backend", "http://a:8501/v1/models/sgz", "--backend", "other=http://b/v1/models/x"])
    assert serve._backends(args.backend) == {"sgz": "http://a:8501/v1/models/sgz", "other": "http://b/v1/models/x"}
    assert serve._methods(args) == []
    with pytest.raises(ValueError, match="twice"):
        serve._backends(["http://a/v1/models/x", "http://b/v1/models/x"])
