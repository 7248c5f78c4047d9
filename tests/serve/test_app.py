from __future__ import annotations

import io
import json
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image

from tfllv import enhancers
from tfllv.records import masks
from tfllv.runner import files, plan
from tfllv.serve import app, engine, registry, request_log, service
from tfllv.serve.limits import Limits


def send(client, data, path="/enhance", field="image", **options):
    names = data if isinstance(data, list) else [("a.png", data)]
    form = {field: [(io.BytesIO(content), name) for name, content in names]}
    return client.post(path, data=form, buffered=True, **options)


@pytest.mark.parametrize(
    ("query", "kind", "name"),
    [
        ("", "PNG", "enhanced_image.png"),
        ("?format=jpeg", "JPEG", "enhanced_image.jpg"),
        ("?format=webp&quality=80", "WEBP", "enhanced_image.webp"),
    ],
)
def test_a_picture_comes_back_in_the_format_asked_for(query, kind, name, client, toy):
    answer = send(client(), toy.png(), f"/enhance{query}")
    assert answer.status_code == 200
    assert name in answer.headers["Content-Disposition"]
    assert answer.headers["X-Model"] == "toy"
    with Image.open(io.BytesIO(answer.data)) as image:
        assert (image.format, image.size) == (kind, (32, 24))
        assert answer.content_type == f"image/{kind.lower()}"


def test_png_is_lossless(client, toy):
    answer = send(client(), toy.png())
    assert np.array_equal(toy.decode(answer.data), toy.decode(toy.png()) + 10)


def test_strength_and_form_fields_are_read(client, toy):
    ask = client()
    data = {"image": (io.BytesIO(toy.png()), "a.png"), "strength": "0.5"}
    half = toy.decode(ask.post("/enhance", data=data).data).astype(int)
    assert np.abs(half - toy.decode(toy.png()) - 5).max() <= 1


@pytest.mark.parametrize("method", ["clahe", "gamma"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_the_same_photo_through_the_service_and_the_command_line_gives_the_same_bytes(method, suffix, tmp_path, toy):
    photo = tmp_path / "in" / f"photo{suffix}"
    photo.parent.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(toy.picture(50, 70)).save(photo, exif=exif, quality=90)
    found = registry.Registry({}, [method])
    found.load()
    ask = app.create_app(service.Service(found)).test_client()
    answer = send(ask, photo.read_bytes(), f"/enhance?format={suffix.removeprefix('.').replace('jpg', 'jpeg')}")
    tasks = plan.plan_tasks([photo], tmp_path / "out")
    files.run_tasks(tasks, enhancers.get(method), progress=False)
    found.close()
    assert answer.data == (tmp_path / "out" / photo.name).read_bytes()
    assert toy.decode(answer.data).shape == (70, 50, 3)


def test_alpha_and_16_bits_are_kept(client, toy):
    deep = toy.picture(dtype=np.uint16, channels=4)
    answer = send(client(), toy.png(deep))
    result = cv2.imdecode(np.frombuffer(answer.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert result.dtype == np.uint16
    assert np.array_equal(result[..., 3], deep[..., 3])
    assert np.array_equal(result[..., :3], deep[..., :3] + 10)


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({}, 400, "missing_image"),
        ({"image": "text"}, 400, "missing_image"),
        ({"image": (io.BytesIO(b""), "a.png")}, 400, "empty_file"),
        ({"images": (io.BytesIO(b"x"), "a.png")}, 400, "missing_image"),
        ({"image": (io.BytesIO(b"MZ\x90"), "a.png")}, 415, "unknown_type"),
        ({"image": (io.BytesIO(b"\x89PNG\r\n\x1a\n"), "a.png")}, 422, "broken_image"),
        ({"method": "sgzz"}, 400, "bad_parameter"),
        ({"format": "exe"}, 400, "bad_parameter"),
        ({"strength": "2"}, 400, "bad_parameter"),
    ],
)
def test_wrong_requests_are_refused_in_json(form, status, error, client):
    form = {
        key: (io.BytesIO(value[0].getvalue()), value[1]) if isinstance(value, tuple) else value
        for key, value in form.items()
    }
    answer = client().post("/enhance", data=form, content_type="multipart/form-data")
    assert (answer.status_code, answer.json["error"]) == (status, error)
    assert set(answer.json) == {"error", "detail"}


def test_other_addresses_and_verbs_are_refused_in_json(client):
    ask = client()
    assert (ask.get("/nothing").status_code, ask.get("/nothing").json["error"]) == (404, "not_found")
    answer = ask.get("/enhance")
    assert (answer.status_code, answer.json["error"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["Allow"]
    assert ask.get("/static/../app.py").status_code == 404
    assert ask.get("/static/%2e%2e/app.py").status_code == 404


def test_a_request_that_is_too_large_is_refused(client, toy):
    ask = client(max_bytes=1000, max_request_bytes=2000)
    assert send(ask, b"\x89PNG\r\n\x1a\n" + b"x" * 1200).json["error"] == "too_large"
    assert send(ask, b"x" * 5000).status_code == 413


def test_every_answer_has_the_security_headers(client, toy):
    ask = client()
    for answer in (send(ask, toy.png()), ask.get("/nothing"), ask.get("/models"), send(ask, b"x"), ask.get("/")):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "ETag" not in answer.headers and "Set-Cookie" not in answer.headers


def test_the_token_guards_what_costs_work(client, toy):
    ask = client(token="secret")
    assert send(ask, toy.png()).status_code == 401
    assert ask.get("/models").status_code == 401
    assert ask.get("/metrics").status_code == 401
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert ask.get(path).status_code == 200
    assert send(ask, toy.png(), headers={"Authorization": "Bearer secret"}).status_code == 200


def test_a_batch_comes_back_as_a_zip_with_what_failed_listed(client, toy):
    broken = bytearray(toy.png(toy.picture(100, 100)))
    broken[len(broken) // 2] ^= 255
    uploads = [("a.png", toy.png()), ("../A.jpg", toy.png(suffix=".jpg")), ("x.txt", b"text"), ("b.png", bytes(broken))]
    answer = send(client(), uploads, "/batch_enhance", "images")
    assert answer.status_code == 200
    assert answer.content_type == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as file:
        assert file.testzip() is None
        assert file.namelist() == ["a.png", "A-2.png", "errors.json"]
        assert np.array_equal(toy.decode(file.read("a.png")), toy.decode(toy.png()) + 10)
        errors = json.loads(file.read("errors.json"))
    assert [(entry["index"], entry["error"]) for entry in errors] == [(2, "unknown_type"), (3, "broken_image")]


def test_a_batch_of_nothing_good_is_refused_and_files_are_limited(client, toy):
    ask = client(max_files=2)
    assert send(ask, [("a", b"x"), ("b", b"y")], "/batch_enhance", "images").status_code == 415
    assert ask.post("/batch_enhance", data={}).json["error"] == "missing_image"
    answer = send(ask, [("a.png", toy.png())] * 3, "/batch_enhance", "images")
    assert (answer.status_code, answer.json["error"]) == (413, "too_many_files")


def test_a_picture_at_which_the_server_fails_does_not_cost_the_others_of_a_batch(client, toy):
    failing = toy.Brighten()

    def fail(batch):
        if batch[0].shape[0] == 11:
            raise ArithmeticError("inner")

    failing.fail = fail
    uploads = [("a.png", toy.png(toy.picture(11, 12))), ("b.png", toy.png())]
    answer = send(client(failing), uploads, "/batch_enhance", "images")
    with zipfile.ZipFile(io.BytesIO(answer.data)) as file:
        assert file.namelist() == ["b.png", "errors.json"]
        assert json.loads(file.read("errors.json"))[0]["error"] == "internal"


def test_masks_are_drawn(client, toy):
    data = toy.png(toy.picture(240, 320))
    plain, masked = (send(client(toy.Brighten(masks=m)), data, "/detect?draw=1").data for m in (False, True))
    assert (toy.decode(plain) != toy.decode(masked)).any(-1).mean() > 0.2


def test_detections_come_as_json_with_masks_as_run_lengths(client, toy):
    answer = send(client(toy.Brighten(masks=True)), toy.png(), "/detect")
    assert (answer.json["width"], answer.json["height"], answer.json["model"]) == (32, 24, "toy")
    first, second = answer.json["detections"]
    assert (first["label"], first["class_id"], first["score"]) == ("cat", 2, pytest.approx(0.9))
    assert first["box"] == [0, 0, 0.5, 0.5]
    mask = masks.decode_mask(first["mask"], 24, 32)
    assert mask.sum() == 12 * 16 and mask[:12, :16].all()
    assert second["label"] == "lamp"


def test_detections_are_drawn_and_filtered(client, toy):
    ask, pixels = client(), toy.picture(240, 320)
    data = toy.png(pixels)
    assert send(ask, data, "/detect?draw=1&format=jpeg").content_type == "image/jpeg"
    plain, drawn = (toy.decode(send(ask, data, f"/detect?draw=1&min_score={score}").data) for score in (1, 0.3))
    assert np.array_equal(plain, toy.decode(data))
    assert not np.array_equal(drawn[:120], plain[:120])
    assert np.array_equal(drawn[200:], plain[200:])
    assert len(send(ask, data, "/detect?min_score=0&max_detections=1").json["detections"]) == 1
    assert send(ask, data, "/detect?min_score=x").status_code == 400


def test_segments_come_as_json_as_a_map_or_drawn(client, toy):
    ask = client()
    content = send(ask, toy.png(), "/segment").json
    assert [(entry["label"], entry["share"]) for entry in content["classes"]] == [("floor", 0.5), ("lamp", 0.5)]
    labels = cv2.imdecode(np.frombuffer(send(ask, toy.png(), "/segment?format=png").data, np.uint8), -1)
    assert labels.shape == (24, 32) and np.unique(labels).tolist() == [0, 1]
    assert toy.decode(send(ask, toy.png(), "/segment?draw=1").data).shape == (24, 32, 3)
    assert send(ask, toy.png(), "/segment?format=jpeg").status_code == 400


def test_16_bits_are_detected_and_segmented_as_8(client, toy):
    ask, data = client(), toy.png(toy.picture(dtype=np.uint16))
    assert send(ask, data, "/detect?draw=1").status_code == 200
    assert send(ask, data, "/segment?draw=1").status_code == 200


def test_a_task_that_no_model_can_do_says_so(client, toy):
    ask = client(toy.Brighten(tasks=[engine.ENHANCE]))
    assert (send(ask, toy.png(), "/detect").status_code, send(ask, toy.png(), "/detect").json["error"]) == (
        404,
        "no_model",
    )
    answer = send(ask, toy.png(), "/segment?method=toy")
    assert (answer.status_code, answer.json["error"]) == (400, "bad_parameter")


def test_models_lists_tasks_classes_defaults_and_limits(client):
    content = client().get("/models").json
    (model,) = content["models"]
    assert (model["name"], model["state"], model["version"]) == ("toy", "ready", 1)
    assert model["classes"] == {"0": "floor", "1": "lamp", "2": "cat"}
    assert content["defaults"] == {"enhance": "toy", "segment": "toy", "detect": "toy"}
    assert content["limits"]["max_pixels"] == Limits().max_pixels


def test_until_models_are_loaded_the_server_lives_but_is_not_ready(toy):
    found = registry.Registry({}, ["gamma"])
    ask = app.create_app(service.Service(found)).test_client()
    assert ask.get("/healthz").status_code == 200
    answer = ask.get("/readyz")
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) >= 1
    assert send(ask, toy.png()).status_code == 503
    found.load()
    assert ask.get("/readyz").status_code == 200
    found.close()


def test_a_failure_inside_is_one_word_outside_and_a_reason_in_the_log(toy):
    log, failing = io.StringIO(), toy.Brighten()

    def fail(batch):
        raise ArithmeticError("the inner reason")

    failing.fail = fail
    core = toy.make_service(failing, log=log)
    answer = send(app.create_app(core).test_client(), toy.png())
    core.registry.close()
    assert (answer.status_code, answer.json["error"]) == (500, "internal")
    assert b"inner" not in answer.data
    assert "the inner reason" in log.getvalue() and answer.headers["X-Request-ID"] in log.getvalue()


def test_the_log_has_one_json_line_a_request_and_nothing_of_the_picture(toy):
    log = io.StringIO()
    core = toy.make_service(log=log, token="secret")
    ask = app.create_app(core).test_client()
    headers = {"Authorization": "Bearer secret", "X-Request-ID": "abc-1"}
    answer = send(ask, [("private name.png", toy.png())], "/enhance?strength=1", headers=headers)
    send(ask, toy.png())
    core.registry.close()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    first, second = [line for line in lines if line["event"] == "request"]
    assert answer.headers["X-Request-ID"] == first["id"] == "abc-1"
    assert (first["route"], first["status"], first["width"], first["height"]) == ("/enhance", 200, 32, 24)
    assert (first["model"], first["version"], first["bytes_out"]) == ("toy", 1, len(answer.data))
    assert {"receive", "check", "decode", "model", "encode"} <= set(first["stages"])
    assert (second["status"], second["error"]) == (401, "unauthorized")
    assert "private" not in log.getvalue() and "secret" not in log.getvalue()


@pytest.mark.parametrize("given", ["a b", "x" * 65, 'a"b', ""])
def test_a_request_id_that_is_no_plain_word_is_replaced(given):
    assert request_log.request_id(given) != given
    assert len(request_log.request_id(None)) == 16


def test_metrics_count_requests_by_route_and_status(client, toy):
    ask = client()
    send(ask, toy.png())
    send(ask, b"x")
    text = ask.get("/metrics").get_data(as_text=True)
    assert 'tfllv_requests_total{route="/enhance",status="200"} 1' in text
    assert 'tfllv_requests_total{route="/enhance",status="415"} 1' in text
    assert 'tfllv_batch_size_count{model="toy"} 1' in text


def test_the_openapi_document_names_every_route(client):
    ask = client(token="x")
    document = ask.get("/openapi.json").json
    known = {rule.rule.replace("<", "{").replace(">", "}") for rule in ask.application.url_map.iter_rules()}
    assert set(document["paths"]) <= known
    posts = {
        rule.rule for rule in ask.application.url_map.iter_rules() if "POST" in rule.methods and "<" not in rule.rule
    }
    assert posts <= set(document["paths"])
    assert document["security"] == [{"token": []}]


def test_a_request_out_of_time_is_503(client, toy):
    slow = toy.Brighten()
    slow.gate.clear()
    answer = send(client(slow, timeout=0.05), toy.png())
    slow.gate.set()
    assert (answer.status_code, answer.json["error"]) == (503, "timeout")
    assert int(answer.headers["Retry-After"]) >= 1
