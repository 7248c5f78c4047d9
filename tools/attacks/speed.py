"""Throughput and latency beside the bare model, side by side in turns."""

from __future__ import annotations

import concurrent.futures
import statistics
import time

import numpy as np

from attacks import victim

CLIENTS = 4
SLICE = 1.5  # seconds of one side before the other's turn


def run(args) -> tuple[list[dict], dict[str, bool]]:
    """Measures the server and the bare signature, with and without decode and encode, in the same moments."""
    from tfllv.inputs import image_files

    data = victim.photo()
    signature = _signature(args)
    pixels = image_files.read_image(data).pixels[None] / np.float32(255)

    def bare() -> None:
        signature(pixels)

    def whole() -> None:
        picture = image_files.read_image(data)
        result = signature(picture.pixels[None] / np.float32(255))
        image_files.encode_image(
            ".png", (result[0] * np.float32(255) + np.float32(0.5)).astype(np.uint8), like=picture.header
        )

    with victim.serve(args) as server:
        body, headers = victim.form([("image", "a.jpg", data)])
        local = [server.connect() for _ in range(CLIENTS)]

        def ask(number: int = 0) -> None:
            local[number].request("POST", "/enhance", body, headers)
            answer = local[number].getresponse()
            if answer.status != 200 or not answer.read():
                raise RuntimeError(f"status {answer.status}")

        for _ in range(3):
            for call in (bare, whole, ask):
                call()
        alone: dict[str, list[float]] = {"bare": [], "whole": [], "server": []}
        many: dict[str, list[float]] = {"bare": [], "whole": [], "server": []}
        for _ in range(args.rounds):
            for name, call in (("bare", bare), ("whole", whole), ("server", ask)):
                alone[name] += _latencies(call, SLICE)
            for name, calls in (
                ("bare", [bare] * CLIENTS),
                ("whole", [whole] * CLIENTS),
                ("server", [lambda n=n: ask(n) for n in range(CLIENTS)]),
            ):
                many[name].append(_rate(calls, SLICE))
    p50 = {name: statistics.median(times) for name, times in alone.items()}
    rate = {name: statistics.median(rates) for name, rates in many.items()}
    ratios = [server / other for server, other in zip(many["server"], many["bare"], strict=True)]
    rows = [
        {"side": "bare signature", "p50_ms": round(p50["bare"] * 1e3, 1), "images/s at 4": round(rate["bare"], 1)},
        {
            "side": "decode, signature, encode",
            "p50_ms": round(p50["whole"] * 1e3, 1),
            "images/s at 4": round(rate["whole"], 1),
        },
        {"side": "server", "p50_ms": round(p50["server"] * 1e3, 1), "images/s at 4": round(rate["server"], 1)},
        {
            "side": "server / bare",
            "p50_ms": round(p50["server"] / p50["bare"], 2),
            "images/s at 4": round(statistics.median(ratios), 2),
        },
        {
            "side": "server / whole",
            "p50_ms": round(p50["server"] / p50["whole"], 2),
            "images/s at 4": round(rate["server"] / rate["whole"], 2),
        },
    ]
    return rows, {
        "throughput at 4 clients is at least 90 % of the bare signature's": statistics.median(ratios) >= 0.9,
        "p50 is at most 1.15 x decode, bare signature and encode": p50["server"] <= 1.15 * p50["whole"],
    }


def _signature(args):
    """The bare signature: [B, H, W, 3] float32 -> the same, as arrays."""
    import tensorflow as tf

    if args.model:
        import pathlib

        newest = max(
            (path for path in pathlib.Path(args.model).iterdir() if path.name.isdecimal()), key=lambda p: int(p.name)
        )
        loaded = tf.saved_model.load(str(newest))
        function = loaded.signatures["serving_default"]
        return lambda image, keep=loaded: function(image=tf.constant(image))["image"].numpy()
    from tfllv import enhancers

    return enhancers.get("sgz")


def _latencies(call, seconds: float) -> list[float]:
    found, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found


def _rate(calls, seconds: float) -> float:
    """Calls a second of several threads, each with its own call."""
    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        start = time.perf_counter()
        counts = pool.map(lambda call: len(_latencies(call, seconds)), calls)
        return sum(counts) / (time.perf_counter() - start)
