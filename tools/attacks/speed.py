"""Throughput and latency beside the bare model, side by side in turns."""

from __future__ import annotations

import concurrent.futures
import contextlib
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from attacks import victim

CLIENTS = 4
SLICE = 1.5  # seconds of one side before the other's turn
_BARE = ("bytes", "floats", "decode, floats, encode")


def run(args) -> tuple[list[dict], dict[str, bool]]:
    """Measures the server and what it is compared with in the same moments.

    The sides: the bare signature on floats; the same between the decoding and encoding that the server does; the bare
    signature on bytes, which does the server's whole work inside the graph; the server with the bundled method; and the
    server with the export.
    """
    data = victim.photo()
    body, headers = victim.form([("image", "a.jpg", data)])
    with contextlib.ExitStack() as held:
        exported = args.model or held.enter_context(_export())
        sides = _bare_sides(exported, data)
        for name, words in (
            ("server, bundled", ["--method", "sgz"]),
            ("server, export", ["--model", f"sgz={exported}"]),
        ):
            server = held.enter_context(victim.start(words))
            connections = [server.connect() for _ in range(CLIENTS)]

            def ask(number: int, connections=connections) -> None:
                connections[number].request("POST", "/enhance", body, headers)
                answer = connections[number].getresponse()
                if not answer.read() or answer.status != 200:
                    raise RuntimeError(f"status {answer.status}")

            sides[name] = ask
        for call in sides.values():
            for number in range(CLIENTS):
                call(number)
        alone: dict[str, list[float]] = {name: [] for name in sides}
        many: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(args.rounds):
            for name, call in sides.items():
                alone[name].append(statistics.median(_latencies(call, 0, SLICE)))
                many[name].append(_rate(call, SLICE))
    promises = {
        f"p50 of {side} is at most 1.15 x decode, bare signature and encode": _ratio(
            alone, side, "decode, floats, encode"
        )
        <= 1.15
        for side in ("server, bundled", "server, export")
    }
    for side in ("server, bundled", "server, export"):
        name = f"images/s at 4 clients of {side} are at least 90 % of the bare signature's on floats"
        promises[name] = _ratio(many, side, "floats") >= 0.9
    return [_row(name, alone, many) for name in sides], promises


@contextlib.contextmanager
def _export() -> Iterator[str]:
    """Exports the bundled method."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tfllv", "export", "sgz", "-o", f"{folder}/sgz"]
        subprocess.run(command, check=True, cwd=victim.ROOT, stdout=subprocess.DEVNULL)
        yield f"{folder}/sgz"


def _bare_sides(exported: str, data: bytes) -> dict[str, Callable[[int], object]]:
    """What is run in this process, without a server; each call is given its thread's number."""
    import tensorflow as tf

    from tfllv.inputs import image_files

    versions = [path for path in pathlib.Path(exported).iterdir() if path.name.isdecimal()]
    model = tf.saved_model.load(str(max(versions, key=lambda path: int(path.name))))
    floats, encoded = (model.signatures[name] for name in ("serving_default", "serving_bytes"))

    def enhance(image: np.ndarray, keep=model) -> np.ndarray:
        return floats(image=tf.constant(image))["image"].numpy()

    image = image_files.read_image(data).pixels[None] / np.float32(255)

    def whole(_: int) -> None:
        picture = image_files.read_image(data)
        result = enhance(picture.pixels[None] / np.float32(255))[0]
        pixels = (result * np.float32(255) + np.float32(0.5)).astype(np.uint8)
        image_files.encode_image(".png", pixels, like=picture.header)

    return {
        "bytes": lambda _: encoded(image_bytes=tf.constant([data]))["image_bytes"].numpy(),
        "floats": lambda _: enhance(image),
        "decode, floats, encode": whole,
    }


def _row(name: str, alone: dict[str, list[float]], many: dict[str, list[float]]) -> dict:
    return {
        "side": name,
        "p50 of one client, ms": round(statistics.median(alone[name]) * 1e3, 1),
        "images/s at 4": round(statistics.median(many[name]), 1),
        **{f"p50 / {other}'s": round(_ratio(alone, name, other), 2) for other in _BARE},
        **{f"images/s / {other}'s": round(_ratio(many, name, other), 2) for other in _BARE},
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
