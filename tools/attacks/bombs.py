"""Files that claim or unpack to far more than they are."""

from __future__ import annotations

import base64
import json
import statistics
import time

from attacks import corpus, victim

REPEATS = 5
MOST_SECONDS, MOST_BYTES = 0.050, 20 * victim.MEGABYTE


def run(args) -> tuple[list[dict], dict[str, bool]]:
    """Sends each bomb as a form and through `serving_bytes`; measures time and the rise of the peak memory."""
    rows = []
    with victim.serve(args) as server:
        for _ in range(20):
            server.enhance(victim.photo(400, 300))
        _measure(server, "warm-up", corpus.jpeg(100, 100))
        for name, data in corpus.bombs().items():
            rows.append(_measure(server, name, data))
    refused = all(400 <= row[side] < 500 for row in rows for side in ("form", "predict"))
    promises = {
        "every bomb is refused with 4xx": refused,
        f"in under {MOST_SECONDS * 1000:.0f} ms each (median of {REPEATS})": max(row["ms"] for row in rows)
        < MOST_SECONDS * 1000,
        "in under 20 MB of extra memory each": max(row["extra_mb"] for row in rows) * victim.MEGABYTE < MOST_BYTES,
    }
    return rows, promises


def _measure(server: victim.Victim, name: str, data: bytes) -> dict:
    forms = (*victim.form([("image", "bomb", data)]), "/enhance")
    content = {"signature_name": "serving_bytes", "instances": [{"b64": base64.b64encode(data).decode()}]}
    predicts = (
        json.dumps(content).encode(),
        {"Content-Type": "application/json"},
        f"/v1/models/{server.model}:predict",
    )
    statuses, seconds, costs, extra = [], [], [], []
    for body, headers, path in (forms, predicts):
        times, work = [], []
        for _ in range(REPEATS):
            before, spent = server.memory(), server.cpu()
            server.reset_peak()
            start = time.perf_counter()
            status, _ = server.ask("POST", path, body, headers)
            times.append(time.perf_counter() - start)
            extra.append(server.peak() - before)
            work.append(server.cpu() - spent)
        statuses.append(status)
        seconds.append(statistics.median(times))
        costs.append(statistics.median(work))
    return {
        "bomb": name,
        "bytes": len(data),
        "form": statuses[0],
        "predict": statuses[1],
        "ms": round(max(seconds) * 1000, 1),
        "cpu_ms": round(max(costs) * 1000, 1),
        "extra_mb": round(max(extra) / victim.MEGABYTE, 1),
    }
