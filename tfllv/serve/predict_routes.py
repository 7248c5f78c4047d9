"""The routes of TensorFlow Serving's REST form: `/v1/models/NAME[/versions/V]` and `:predict`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import flask

from tfllv.serve import engine as engines
from tfllv.serve import predict
from tfllv.serve.refusals import RefusalError
from tfllv.serve.registry import Model
from tfllv.serve.service import Service, Work


def add(app: flask.Flask, service: Service, new_work: Callable[[Service], Work]) -> None:
    """Adds the routes.

    Args:
      app: to which.
      service: what does the work.
      new_work: starts the account of the current request.
    """

    def answer(name: str, version: int | None) -> flask.Response:
        work = new_work(service)
        model, engine = _find(service, name, version)
        with work.stage("receive"):
            signature, inputs, rows = predict.parse(flask.request.get_data(cache=False), engine, service.limits)
            size = engines.check_inputs(engine.signatures[signature], inputs, service.limits)
        work.facts.update(model=engine.name, version=engine.version, signature=signature)
        assert model.batcher is not None
        with service.memory(engine.predict_copies * size, work), work.stage("model"):
            outputs: dict[str, Any] = model.batcher.call(
                engine, lambda: engine.predict(signature, inputs, service.limits), work.deadline
            )
        with work.stage("encode"):
            return flask.Response(json.dumps(predict.render(outputs, rows)), content_type="application/json")

    @app.post("/v1/models/<name>:predict")
    def predict_latest(name: str) -> flask.Response:
        return answer(name, None)

    @app.post("/v1/models/<name>/versions/<int:version>:predict")
    def predict_version(name: str, version: int) -> flask.Response:
        return answer(name, version)

    @app.get("/v1/models/<name>")
    def status(name: str) -> flask.Response:
        return flask.jsonify(predict.describe_status(_versions(service.registry.get(name))))

    @app.get("/v1/models/<name>/versions/<int:version>")
    def status_of_version(name: str, version: int) -> flask.Response:
        versions = _versions(service.registry.get(name))
        if version not in versions:
            raise RefusalError(404, "unknown_version", f"The model '{name[:60]}' has no version {version}.")
        return flask.jsonify(predict.describe_status({version: versions[version]}))

    @app.get("/v1/models/<name>/metadata")
    def metadata(name: str) -> flask.Response:
        return flask.jsonify(predict.describe_signatures(_find(service, name, None)[1]))


def _find(service: Service, name: str, version: int | None) -> tuple[Model, engines.Engine]:
    model = service.registry.get(name)
    engine = service.registry.engine(model)
    if version is not None and version != engine.version:
        raise RefusalError(
            404, "unknown_version", f"The model '{name[:60]}' is served in version {engine.version}, not {version}."
        )
    return model, engine


def _versions(model: Model) -> dict[int, tuple[str, str]]:
    """Version -> state and message in TF Serving's words; why one was refused names paths, and stays in the log."""
    found = {version: ("END", "refused; the server's log has the reason") for version in model.refused}
    if model.engine:
        found[model.engine.version] = ("AVAILABLE", "")
    return found or {1: ("LOADING", "")}
