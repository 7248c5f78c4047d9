"""The OpenAPI 3.1 document of the service."""

from __future__ import annotations

from typing import Any

from tfllv import __version__
from tfllv.inputs.image_header import FORMATS
from tfllv.serve.limits import Limits
from tfllv.serve.pictures import OUTPUT_FORMATS

_PROBLEMS = {
    400: "a field is missing or wrong",
    401: "the token is missing or wrong",
    404: "no such model",
    411: "the length was not sent",
    413: "too many bytes, pixels or files",
    415: "no picture of a type that is read",
    422: "a broken picture",
    503: "at the limit, loading or stopping; Retry-After says when to come again",
}
_METHOD = ("method", {"type": "string"}, "name of a model of /models; default: the first that can do it")
_FORMAT = ("format", {"type": "string", "enum": list(OUTPUT_FORMATS), "default": "png"}, "of the result")
_QUALITY = ("quality", {"type": "integer", "minimum": 1, "maximum": 100, "default": 95}, "of JPEG and WebP")
_STRENGTH = (
    "strength",
    {"type": "number", "minimum": 0, "maximum": 1, "default": 1},
    "share of the enhanced picture in the result; the rest is the input",
)
_DRAW = ("draw", {"type": "string", "enum": ["0", "1"], "default": "0"}, "1: a picture with what was found drawn on it")
_SCORE = ("min_score", {"type": "number", "minimum": 0, "maximum": 1, "default": 0.3}, "of a detection")
_COUNT = ("max_detections", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "best first")


def document(limits: Limits, *, token: bool) -> dict[str, Any]:
    """Returns the document.

    Args:
      limits: which it states.
      token: whether requests must bear one.
    """
    files = {media: {"schema": {"type": "string", "format": "binary"}} for media in OUTPUT_FORMATS.values()}
    found = {"application/json": {"schema": {"type": "object"}}}
    paths: dict[str, Any] = {
        "/enhance": _post("Brighten a picture", "image", files, _METHOD, _FORMAT, _QUALITY, _STRENGTH),
        "/batch_enhance": _post(
            f"Brighten up to {limits.max_files} pictures; what could not be done is in errors.json of the zip",
            "images",
            {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
            _METHOD,
            _FORMAT,
            _QUALITY,
            _STRENGTH,
        ),
        "/detect": _post("Find objects", "image", {**found, **files}, _METHOD, _DRAW, _SCORE, _COUNT, _FORMAT),
        "/segment": _post(
            "Name the class of every pixel; format=png gives the map itself",
            "image",
            {**found, **files},
            _METHOD,
            _DRAW,
            _FORMAT,
        ),
        "/v1/models/{name}:predict": _predict(),
        "/v1/models/{name}": _get("State of a model's versions, as TF Serving", name=True),
        "/v1/models/{name}/metadata": _get("Signatures of a model, as TF Serving", name=True),
        "/models": _get("Models, their tasks and classes, and the limits"),
        "/healthz": _get("Whether the process lives"),
        "/readyz": _get("Whether requests are answered"),
        "/metrics": _get("Figures for Prometheus", "text/plain"),
    }
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "tfllv",
            "version": __version__,
            "description": f"Low-light vision. A picture: {', '.join(FORMATS)}, at most {limits.max_bytes:,} bytes and "
            f"{limits.max_pixels:,} pixels; it is turned upright. Answers are not cached.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error", "detail"],
                    "properties": {"error": {"type": "string"}, "detail": {"type": "string"}},
                }
            }
        },
    }
    if token:
        content["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        content["security"] = [{"token": []}]
    return content


def _post(summary: str, field: str, answers: dict[str, Any], *parameters: tuple[str, dict[str, Any], str]) -> Any:
    one = {"type": "string", "format": "binary"}
    schema = {"type": "array", "items": one} if field == "images" else one
    form = {"schema": {"type": "object", "required": [field], "properties": {field: schema}}}
    return {
        "post": {
            "summary": summary,
            "parameters": [
                {"name": name, "in": "query", "schema": kind, "description": text} for name, kind, text in parameters
            ],
            "requestBody": {"required": True, "content": {"multipart/form-data": form}},
            "responses": {"200": {"description": "done", "content": answers}, **_refusals()},
        }
    }


def _predict() -> Any:
    schema = {
        "type": "object",
        "properties": {"signature_name": {"type": "string"}, "instances": {"type": "array"}, "inputs": {}},
    }
    answer = {"description": "done", "content": {"application/json": {"schema": {"type": "object"}}}}
    return {
        "post": {
            "summary": 'TF Serving\'s REST predict: bytes as {"b64": ...}',
            "parameters": [_name()],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": {"200": answer, **_refusals()},
        }
    }


def _get(summary: str, media: str = "application/json", *, name: bool = False) -> Any:
    return {
        "get": {
            "summary": summary,
            **({"parameters": [_name()]} if name else {}),
            "responses": {"200": {"description": "done", "content": {media: {}}}},
        }
    }


def _name() -> dict[str, Any]:
    return {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}


def _refusals() -> dict[str, Any]:
    schema = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(code): {"description": text, "content": schema} for code, text in _PROBLEMS.items()}
