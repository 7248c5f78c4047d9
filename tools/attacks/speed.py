"""Throughput and latency beside the bare model, side by side in turns."""

from __future__ import annotations

import concurrent.futures
import pathlib
import statistics
import time
from collections.abc import Callable

import numpy as np

from attacks import victim

CLIENTS = 4
SLICE = 1.5  # seconds of one side before the other's turn


def run(args) -> tuple[list[dict], dict[str, bool]]:
    """Measures the server and what it is compared with in the same moments.

    The sides: the bare signature on floats; the same between the decoding and encoding that the server does; the bare
    signature on bytes, which does the server's whole work inside the graph; and the server.
    """
    data = victim.photo()
    sides = _bare_sides(args, data)
    with victim.serve(args) as server:
        body, headers = victim.form([("image", "a.jpg", data)])
        connections = [server.connect() for _ in range(CLIENTS)]

        def ask(number: int) -> None:
            connections[number].request("POST", "/enhance", body, headers)
            answer = connections[number].getresponse()
            if not answer.read() or answer.status != 200:
                raise RuntimeError(f"status {answer.status}")

        sides["server"] = ask
        for call in sides.values():
            for number in range(CLIENTS):
                call(number)
        alone: dict[str, list[float]] = {name: [] for name in sides}
        many: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, call in sides.items():
                alone[name].append(statistics.median(_latencies(call, 0, SLICE)))
                many[name].append(_rate(call, SLICE))
    rows = [_row(name, alone, many) for name in sides]
    latency = _ratio(alone, "server", "decode, floats, encode")
    promises = {"p50 is at most 1.15 x decode, bare signature and encode": latency <= 1.15}
    if "bytes" in sides:
        name = "images/s at 4 clients are at least 90 % of the bare signature's (serving_bytes)"
        promises[name] = _ratio(many, "server", "bytes") >= 0.9
    return rows, promises


def _bare_sides(args, data: bytes) -> dict[str, Callable[[int], object]]:
    """What is run in this process, without a server; each call is given its thread's number."""
    import tensorflow as tf

    from tfllv import enhancers
    from tfllv.inputs import image_files

    sides: dict[str, Callable[[int], object]] = {}
    if args.model:
        versions = [path for path in pathlib.Path(args.model).iterdir() if path.name.isdecimal()]
        model = tf.saved_model.load(str(max(versions, key=lambda path: int(path.name))))
        floats, encoded = (model.signatures[name] for name in ("serving_default", "serving_bytes"))
        sides["bytes"] = lambda _: encoded(image_bytes=tf.constant([data]))["image_bytes"].numpy()

        def enhance(image: np.ndarray, keep=model) -> np.ndarray:
            return floats(image=tf.constant(image))["image"].numpy()

    else:
        enhance = enhancers.get("sgz")
    image = image_files.read_image(data).pixels[None] / np.float32(255)
    sides["floats"] = lambda _: enhance(image)

    def whole(_: int) -> None:
        picture = image_files.read_image(data)
        result = enhance(picture.pixels[None] / np.float32(255))[0]
        pixels = (result * np.float32(255) + np.float32(0.5)).astype(np.uint8)
        image_files.encode_image(".png", pixels, like=picture.header)

    sides["decode, floats, encode"] = whole
    return sides


def _row(name: str, alone: dict[str, list[float]], many: dict[str, list[float]]) -> dict:
    return {
        "side": name,
        "p50 of one client, ms": round(statistics.median(alone[name]) * 1e3, 1),
        "server's p50 / this": round(_ratio(alone, "server", name), 2),
        "images/s at 4": round(statistics.median(many[name]), 1),
        "server's images/s / this": round(_ratio(many, "server", name), 2),
    }


def _ratio(figures: dict[str, list[float]], one: str, other: str) -> float:
    """The median over the rounds of one side by the other, each measured moments apart."""
    return statistics.median(a / b for a, b in zip(figures[one], figures[other], strict=True))


def _latencies(call: Callable[[int], object], number: int, seconds: float) -> list[float]:
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call(number)
        found.append(time.perf_counter() - start)
    return found


def _rate(call: Callable[[int], object], seconds: float) -> float:
    """Calls a second of several threads at once."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        start = time.perf_counter()
        counts = pool.map(lambda number: len(_latencies(call, number, seconds)), range(CLIENTS))
        return sum(counts) / (time.perf_counter() - start)
