"""The routes, as a WSGI application: Flask reads the request, `Service` does the work."""

from __future__ import annotations

import functools
import io
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import flask
from werkzeug import exceptions
from werkzeug.datastructures import FileStorage

from tfllv import __version__
from tfllv.serve import batch, findings, openapi, pictures, predict_routes, security
from tfllv.serve import engine as engines
from tfllv.serve.pictures import Rendering
from tfllv.serve.refusals import RefusalError, stopping
from tfllv.serve.request_log import request_id
from tfllv.serve.service import Service, Work, to_uint8

STATIC = pathlib.Path(__file__).parent / "static"
ARRIVAL = "tfllv.arrival"  # of the WSGI environment: when the request's first bytes came, on time.monotonic's clock
# What is answered without a token: nothing that costs work, and what a probe or a browser needs before it has one.
_OPEN = {"page", "static_file", "healthz", "readyz", "openapi_document"}
# Of form fields that are not files. It must exceed the pieces of 64 KB in which Werkzeug reads a form.
_FIELDS_BYTES = 512 << 10


class UploadRequest(flask.Request):
    """A request whose files stay in memory, however large they are."""

    def _get_file_stream(self, *args: Any, **kwargs: Any) -> io.BytesIO:
        return io.BytesIO()


def create_app(service: Service) -> flask.Flask:
    """Makes the WSGI application.

    Args:
      service: what does the work.
    """
    app = flask.Flask("tfllv.serve", static_folder=None)
    app.request_class = UploadRequest
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = service.limits.max_request_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = _FIELDS_BYTES
    app.config["MAX_FORM_PARTS"] = service.limits.max_files + 32
    app.before_request(functools.partial(_begin, service))
    app.after_request(functools.partial(_end, service))
    app.register_error_handler(Exception, functools.partial(_refuse, service))
    _add_pages(app, service)
    for rule, function in (
        ("/enhance", enhance),
        ("/batch_enhance", batch_enhance),
        ("/detect", detect),
        ("/segment", segment),
    ):
        app.add_url_rule(rule, rule[1:], functools.partial(function, service), methods=["POST"])
    predict_routes.add(app, service, new_work)
    return app


def _begin(service: Service) -> None:
    flask.g.arrival = flask.request.environ.get(ARRIVAL) or time.monotonic()
    flask.g.request_id = request_id(flask.request.headers.get("X-Request-ID"))
    flask.g.work = None
    if flask.request.endpoint not in _OPEN:
        security.check_token(flask.request.headers.get("Authorization"), service.token)
    if service.stopping and flask.request.method == "POST" and ARRIVAL not in flask.request.environ:
        raise stopping()  # our own transport has said so already, before the body came


def new_work(service: Service) -> Work:
    """Starts the account of the current request."""
    flask.g.work = Work(flask.g.arrival + service.limits.timeout)
    flask.g.work.stages["queue"] = time.monotonic() - flask.g.arrival
    return flask.g.work


def _end(service: Service, response: flask.Response) -> flask.Response:
    for name, value in security.HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-ID"] = flask.g.request_id
    work: Work | None = flask.g.work
    if work and not response.is_streamed:
        shown = (f"{name};dur={seconds * 1000:.1f}" for name, seconds in work.stages.items())
        response.headers["Server-Timing"] = ", ".join(shown)
    write = functools.partial(_log, service, _facts(response), work, flask.g.arrival)
    response.call_on_close(write)
    return response


def _facts(response: flask.Response) -> dict[str, Any]:
    request = flask.request
    return {
        "id": flask.g.request_id,
        "client": request.remote_addr,
        "method": request.method,
        "route": request.url_rule.rule if request.url_rule else None,
        "status": response.status_code,
        "error": getattr(flask.g, "error", None),
        "bytes_in": request.content_length or 0,
        "bytes_out": response.content_length,
    }


def _log(service: Service, facts: dict[str, Any], work: Work | None, arrival: float) -> None:
    seconds = time.monotonic() - arrival
    labels = {"route": facts["route"] or "none", "status": str(facts["status"])}
    service.metrics.count("tfllv_requests_total", labels)
    service.metrics.observe("tfllv_request_seconds", seconds, {"route": labels["route"]})
    stages = None
    if work:
        stages = {name: round(value * 1000, 2) for name, value in work.stages.items()}
        for name, value in work.stages.items():
            service.metrics.observe("tfllv_stage_seconds", value, {"stage": name})
    extra = work.facts if work else {}
    service.log.write("request", **facts, **extra, ms=round(seconds * 1000, 2), stages=stages)


def _refuse(service: Service, error: Exception) -> flask.Response:
    headers: dict[str, str] = {}
    if isinstance(error, RefusalError):
        refusal = error
    elif isinstance(error, exceptions.HTTPException) and 400 <= (error.code or 0) < 500:
        refusal = _from_werkzeug(service, error)
        headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    elif isinstance(error, MemoryError):
        refusal = RefusalError(503, "busy", "There is no memory for this picture now.", retry_after=5)
    else:
        service.log.write("error", id=flask.g.request_id, kind=type(error).__name__, reason=str(error)[:300])
        refusal = RefusalError(500, "internal", "The server failed; its log has the reason under this X-Request-ID.")
    flask.g.error = refusal.error
    return flask.Response(refusal.body(), refusal.status, {**headers, **refusal.headers()})


def _from_werkzeug(service: Service, error: exceptions.HTTPException) -> RefusalError:
    known = {
        404: ("not_found", f"There is no {flask.request.method} {flask.request.path[:80]}; see /openapi.json."),
        405: ("method_not_allowed", f"{flask.request.method} is not for {flask.request.path[:80]}; see /openapi.json."),
        413: (
            "too_large",
            f"A request must have at most {service.limits.max_request_bytes:,} bytes and {service.limits.max_files} "
            "files.",
        ),
    }
    code = error.code or 400
    return RefusalError(code, *known.get(code, (error.name.lower().replace(" ", "_"), error.description or error.name)))


def _add_pages(app: flask.Flask, service: Service) -> None:
    """Adds what is asked by GET."""

    @app.get("/")
    def page() -> flask.Response:
        try:
            content = (STATIC / "index.html").read_bytes()
        except FileNotFoundError:
            raise exceptions.NotFound() from None
        policy = {"Content-Security-Policy": security.page_policy(content)}
        return flask.Response(content, 200, policy, content_type="text/html; charset=utf-8")

    @app.get("/static/<path:name>")
    def static_file(name: str) -> flask.Response:
        return flask.send_from_directory(STATIC, name, etag=False, conditional=False, max_age=None)

    @app.get("/healthz")
    def healthz() -> flask.Response:
        return flask.jsonify(status="ok", version=__version__)

    @app.get("/readyz")
    def readyz() -> flask.Response:
        if not service.ready:
            raise stopping() if service.stopping else RefusalError(503, "loading", "Models are loading.", retry_after=2)
        return flask.jsonify(status="ready")

    @app.get("/models")
    def models() -> flask.Response:
        return flask.jsonify(service.describe())

    @app.get("/metrics")
    def metrics() -> flask.Response:
        from tfllv.serve.metrics import MEDIA_TYPE

        return flask.Response(service.metrics.render(), content_type=MEDIA_TYPE)

    @app.get("/openapi.json")
    def openapi_document() -> flask.Response:
        return flask.jsonify(openapi.document(service.limits, token=service.token is not None))


def enhance(service: Service) -> flask.Response:
    """`POST /enhance`: a picture in, a picture out."""
    work, values = new_work(service), _values()
    rendering = pictures.read_rendering(values)
    model, engine = service.registry.for_task(engines.ENHANCE, values.get("method"))
    content = service.enhance(_image(), model, engine, rendering, work)
    return _file(content, rendering, f"enhanced_image{rendering.suffix}", engine)


def batch_enhance(service: Service) -> flask.Response:
    """`POST /batch_enhance`: pictures in, a zip out."""
    work, values = new_work(service), _values()
    rendering = pictures.read_rendering(values)
    model, engine = service.registry.for_task(engines.ENHANCE, values.get("method"))
    files = [(file.filename, _bytes(file)) for file in flask.request.files.getlist("images") if file.filename]
    content = batch.Batch(service, files, work).stream(model, engine, rendering)
    next(content)  # takes the zip's place among those that are made, or is refused
    headers = {"Content-Disposition": 'attachment; filename="enhanced_images.zip"', **_model_headers(engine)}
    return flask.Response(content, 200, headers, content_type="application/zip")


def detect(service: Service) -> flask.Response:
    """`POST /detect`: a picture in; boxes, classes, scores and masks out, or a picture with them drawn."""
    work, values = new_work(service), _values()
    rendering, drawn = pictures.read_rendering(values), pictures.read_flag(values, "draw")
    min_score = pictures.read_number(values, "min_score", 0.3, 0.0, 1.0)
    limit = int(pictures.read_number(values, "max_detections", 100, 1, 1000))
    model, engine = service.registry.for_task(engines.DETECT, values.get("method"))
    with service.picture(_image(), engine, work) as picture:
        pixels = to_uint8(picture.pixels)
        found = service.run(model, engine, pixels, work).detections or {}
        with work.stage("encode"):
            kept = findings.keep_detections(found, min_score, limit)
            if not drawn:
                content = findings.describe_detections(engine, kept, *pixels.shape[:2])
                return _json(content, engine)
            data = pictures.encode(findings.draw_detections(engine, pixels, kept), rendering, like=picture.header)
            return _file(data, rendering, f"detections{rendering.suffix}", engine)


def segment(service: Service) -> flask.Response:
    """`POST /segment`: a picture in; the classes' shares and masks out, their map as PNG, or the picture overlaid."""
    work, values = new_work(service), _values()
    rendering, drawn = pictures.read_rendering(values), pictures.read_flag(values, "draw")
    model, engine = service.registry.for_task(engines.SEGMENT, values.get("method"))
    with service.picture(_image(), engine, work) as picture:
        pixels = to_uint8(picture.pixels)
        labels = service.run(model, engine, pixels, work).labels
        assert labels is not None
        with work.stage("encode"):
            if drawn:
                data = pictures.encode(findings.draw_labels(pixels, labels), rendering, like=picture.header)
                return _file(data, rendering, f"segments{rendering.suffix}", engine)
            if "format" in values:
                if rendering.format != "png":
                    raise RefusalError(
                        400, "bad_parameter", "`format` of a map of classes must be png: others lose it."
                    )
                data = findings.encode_labels(labels)
                return _file(data, rendering, "classes.png", engine)
            return _json(findings.describe_labels(engine, labels), engine)


def _values() -> Mapping[str, str]:
    """The options, from the query and the form; the form is read here."""
    with flask.g.work.stage("receive"):
        return flask.request.values


def _image() -> bytes:
    files = [file for file in flask.request.files.getlist("image") if file.filename]
    if len(files) != 1:
        raise RefusalError(
            400, "missing_image", f"`image` must be one file of a multipart/form-data form. Received: {len(files)}."
        )
    return _bytes(files[0])


def _bytes(file: FileStorage) -> bytes:
    stream = file.stream
    return stream.getvalue() if isinstance(stream, io.BytesIO) else stream.read()


def _file(content: bytes, rendering: Rendering, name: str, engine: engines.Engine) -> flask.Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', **_model_headers(engine)}
    return flask.Response(content, 200, headers, content_type=rendering.media_type)


def _json(content: dict[str, Any], engine: engines.Engine) -> flask.Response:
    return flask.Response(json.dumps(content), 200, _model_headers(engine), content_type="application/json")


def _model_headers(engine: engines.Engine) -> dict[str, str]:
    return {"X-Model": engine.name, "X-Model-Version": str(engine.version)}
