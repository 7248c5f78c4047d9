"""`tfllv serve`: a page and an HTTP service that enhance, detect and segment uploaded pictures, within limits."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import signal
import sys
import threading
from typing import Any

_TOKEN_VARIABLE = "TFLLV_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    from tfllv.serve import limits

    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="an exported model: a folder of versions DIR/1, DIR/2, ... (new ones are taken up while serving), a "
        "SavedModel, or an export of the TF Object Detection API; may be repeated",
    )
    parser.add_argument(
        "--method",
        action="append",
        metavar="NAME",
        help="a bundled method of `tfllv list`; may be repeated (default: all of them, where neither --model nor "
        "--backend is given)",
    )
    parser.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="[NAME=]URL",
        help="a model of a TensorFlow Serving elsewhere, as http://HOST:8501/v1/models/NAME; may be repeated",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=5000, help="default: 5000; 0 takes a free one")
    parser.add_argument(
        "--token_file",
        metavar="FILE",
        help=f"holds a token that requests must bear (or the environment variable {_TOKEN_VARIABLE})",
    )
    parser.add_argument(
        "--trusted_proxy", metavar="ADDRESS", help="believe X-Forwarded-For, -Proto and -Host of this proxy alone"
    )
    parser.add_argument("--poll", type=float, default=2.0, metavar="S", help="look for new versions this often")
    group = parser.add_argument_group("limits")
    for field in dataclasses.fields(limits.Limits):
        kind = float if isinstance(field.default, float) else int
        group.add_argument(
            f"--{field.name}", type=kind, default=field.default, metavar="N", help=f"default: {field.default}"
        )


def run(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT; returns 0, or 2 if a model cannot be served."""
    try:
        import flask  # noqa: F401
        import waitress  # noqa: F401
    except ImportError as error:
        raise ValueError(f"serving needs {error.name}: pip install 'tfllv[serve]'.") from None
    from tfllv.serve import app, limits, registry, request_log, service, transport

    names = [field.name for field in dataclasses.fields(limits.Limits)]
    limit = limits.Limits(**{name: getattr(args, name) for name in names})
    models = registry.Registry(
        _folders(args.model), _methods(args), backends=_backends(args.backend), limits=limit, poll=args.poll
    )
    log = request_log.RequestLog()
    _log_through(log)
    core = service.Service(models, token=_token(args), log=log)
    server = transport.Transport(
        app.create_app(core), core, host=args.host, port=args.port, trusted_proxy=args.trusted_proxy
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    failures: list[Exception] = []
    loader = threading.Thread(target=_load, args=(models, server, failures), name="tfllv-load", daemon=True)
    log.write("listening", addresses=server.addresses)
    loader.start()
    server.run()
    models.close()
    if failures:
        raise failures[0]
    return 0


def _load(models: Any, server: Any, failures: list[Exception]) -> None:
    """Loads the models while probes are answered already; a failure ends the server."""
    try:
        models.load()
        models.watch()
    except Exception as error:
        failures.append(error)
        server.stop()


def _folders(words: list[str]) -> dict[str, str]:
    from tfllv.serve import registry

    folders: dict[str, str] = {}
    for word in words:
        name, path = registry.model_name(word)
        if name in folders:
            raise ValueError(f"`--model` must have names of their own, as in NAME=DIR. Received: '{name}' twice.")
        folders[name] = path
    return folders


def _backends(words: list[str]) -> dict[str, str]:
    backends: dict[str, str] = {}
    for word in words:
        name, equals, url = word.partition("=")
        if not equals or "/" in name:
            name, url = word.rstrip("/").rpartition("/")[2], word
        if name in backends or not name:
            raise ValueError(f"`--backend` must have names of their own, as in NAME=URL. Received: '{name}' twice.")
        backends[name] = url
    return backends


def _methods(args: argparse.Namespace) -> list[str]:
    """The bundled methods to serve: those named, or all that need no file, the default of `tfllv enhance` first."""
    from tfllv import enhancers, models

    if args.method is not None or args.model or args.backend:
        return args.method or []
    return [
        name
        for name, method in sorted(enhancers.METHODS.items(), key=lambda row: row[1].kind != "network")
        if method.kind == "classical" or (name in models.MODELS and models.shipped_weights(name))
    ]


def _token(args: argparse.Namespace) -> str | None:
    """The token, never from the command line, which every user of the machine can read."""
    if args.token_file:
        token = pathlib.Path(args.token_file).read_text(encoding="utf-8").strip()
        if not token:
            raise ValueError(f"`--token_file` must hold a token. Received: '{args.token_file}', which is empty.")
        return token
    return os.environ.get(_TOKEN_VARIABLE) or None


def _log_through(log: Any) -> None:
    """Sends all logging into the one JSON log, and keeps the decoders' own words out of it."""
    import logging

    from tfllv.commands import enhance
    from tfllv.serve import request_log

    enhance.silence_decoders()
    root = logging.getLogger()
    root.handlers[:] = [request_log.Handler(log)]
    root.setLevel(logging.WARNING)
    logging.getLogger("tfllv.serve").setLevel(logging.INFO)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
