"""Random damage to files, forms, addresses and JSON."""

from __future__ import annotations

import base64
import collections
import concurrent.futures
import json
import random

import cv2
import numpy as np

from attacks import victim

CLIENTS = 6
WARM_UP = 1000
_TOKENS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF",
    b"WEBP",
    b"II*\0",
    b"BM",
    b"IHDR",
    b"IDAT",
    b"\xff\xff\xff\xff",
)
_VALUES = ("", "0", "1", "-1", "nan", "1e999", "\0", "x" * 3000, "../..", "<script>", "%s%n", "é", "sgz", "png", "webp")


def run(args) -> tuple[list[dict], dict[str, bool]]:
    """Sends `args.uploads` damaged requests over a few connections."""
    with victim.serve(args) as server:
        _send(server, range(WARM_UP), args.seed + 1)
        before = victim.settle(server)
        counts = _send(server, range(args.uploads), args.seed)
        after = victim.settle(server)
        alive = server.enhance(victim.photo(400, 300))[0] == 200
    rows = [{"status": status, "answers": number} for status, number in sorted(counts.items())]
    rows.append({"status": "memory", "answers": f"{before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after"})
    allowed = all(isinstance(s, int) and (200 <= s < 300 or 400 <= s < 500 or s == 503) for s in counts)
    promises = {
        f"{args.uploads} fuzzed uploads: only 2xx, 4xx and 503": allowed and sum(counts.values()) == args.uploads,
        "none hung, and the server works on": "hung" not in counts and alive,
        "memory after is within 5 % of before": after <= before * 1.05,
    }
    return rows, promises


def _send(server: victim.Victim, numbers: range, seed: int) -> collections.Counter:
    seeds = _seeds()
    parts = [numbers[index::CLIENTS] for index in range(CLIENTS)]
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        found = pool.map(lambda part: _client(server, part, seed, seeds), parts)
        return sum(found, collections.Counter())


def _client(server: victim.Victim, numbers, seed: int, seeds: list[bytes]) -> collections.Counter:
    counts: collections.Counter = collections.Counter()
    connection = server.connect(timeout=30)
    for number in numbers:
        chance = random.Random(f"{seed}-{number}")
        method, path, body, headers = _request(chance, seeds)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            counts[answer.status] += 1
        except TimeoutError:
            counts["hung"] += 1
            connection.close()
        except (OSError, ValueError, EOFError) as error:
            counts[type(error).__name__] += 1
            connection.close()
        except Exception as error:  # http.client's own, such as RemoteDisconnected's relatives
            counts[type(error).__name__] += 1
            connection.close()
    connection.close()
    return counts


def _request(chance: random.Random, seeds: list[bytes]) -> tuple[str, str, bytes, dict[str, str]]:
    data = _damage(chance, chance.choice(seeds))
    kind = chance.random()
    if kind < 0.1:
        text = json.dumps(_json(chance, data)).encode()
        text = _damage(chance, text) if chance.random() < 0.5 else text
        return "POST", "/v1/models/sgz:predict", text, {"Content-Type": "application/json"}
    field = chance.choice(["image"] * 28 + ["images", ""])
    name = chance.choice(["a.jpg", "../../x", "a\x7f.png", "x" * 500, ""])
    path = "/batch_enhance" if kind < 0.2 else chance.choice(["/enhance"] * 28 + ["/detect", "/segment"])
    files = [("images" if kind < 0.2 else field, name, data)] * (2 if chance.random() < 0.05 else 1)
    body, headers = victim.form(files)
    if chance.random() < 0.1:
        body = _damage(chance, body)
    if chance.random() < 0.05:
        headers = {"Content-Type": chance.choice(["text/plain", "multipart/form-data", "image/png", ""])}
    if chance.random() < 0.1:
        option = chance.choice(["format", "strength", "quality", "method", "draw", "min_score"])
        from urllib.parse import quote

        path += f"?{option}={quote(chance.choice(_VALUES))}"
    return "POST", path, body, headers


def _json(chance: random.Random, data: bytes):
    row = {"b64": base64.b64encode(data).decode()}
    return chance.choice(
        [
            {"signature_name": "serving_bytes", "instances": [row]},
            {"signature_name": "serving_bytes", "inputs": {"image_bytes": [row, row]}},
            {"instances": [[[[chance.random()] * 3] * chance.randrange(5)] * chance.randrange(5)]},
            {"signature_name": chance.choice(_VALUES), "instances": [row]},
            {"instances": chance.choice([None, 1, "x", {}, [[]], [{}]])},
        ]
    )


def _damage(chance: random.Random, data: bytes) -> bytes:
    if chance.random() < 0.1:
        return data
    found = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 5, 50])):
        at, what = chance.randrange(max(len(found), 1)), chance.random()
        if what < 0.5 and found:
            found[at] ^= 1 << chance.randrange(8)
        elif what < 0.6:
            del found[at:]
        elif what < 0.7:
            del found[at : at + chance.randrange(1, 60)]
        elif what < 0.85:
            found[at:at] = chance.choice(_TOKENS)
        else:
            found[at : at + 4] = chance.randbytes(4)
    return bytes(found)


def _seeds() -> list[bytes]:
    """Small pictures of every type and kind."""
    generator = np.random.default_rng(0)
    small = cv2.resize(generator.integers(0, 80, (6, 8, 3)).astype(np.uint8), (96, 64))
    found = [cv2.imencode(kind, small)[1].tobytes() for kind in (".png", ".jpg", ".webp", ".bmp", ".tiff")]
    found.append(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes())
    found.append(cv2.imencode(".png", small.astype(np.uint16) * 257)[1].tobytes())
    found.append(cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_BGR2BGRA))[1].tobytes())
    found.append(cv2.imencode(".png", small[..., 0])[1].tobytes())
    return found
