"""Many clients at once, each asking again and again."""

from __future__ import annotations

import asyncio
import collections
import resource
import time

import numpy as np

from attacks import victim

HUNG = 60.0  # seconds


def run(args) -> tuple[list[dict], dict[str, bool]]:
    """`args.clients` ask for `args.seconds`; who is refused comes again after Retry-After."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, args.clients + 200)), hard))
    with victim.serve(args) as server:
        for _ in range(20):
            server.enhance(victim.photo(400, 300))
        before = victim.settle(server)
        counts, served, refused = asyncio.run(_crowd(server, args))
        after = victim.settle(server)
    middle, late = (float(np.percentile(served, part)) for part in (50, 99))
    rows = [
        {
            "what": f"answers by status, {args.clients} clients, {args.seconds:g} s",
            "value": dict(sorted(counts.items(), key=str)),
        },
        {"what": "served: p50, p99, longest (s)", "value": f"{middle:.3f}, {late:.3f}, {max(served):.3f}"},
        {"what": "served: p99 / p50", "value": f"{late / middle:.2f}"},
        {
            "what": "refused: p50, p99 (s)",
            "value": ", ".join(f"{np.percentile(refused or [0], p):.3f}" for p in (50, 99)),
        },
        {"what": "memory before and after (MB)", "value": f"{before / 1e6:.0f}, {after / 1e6:.0f}"},
    ]
    promises = {
        "p99 of the served is at most 3 x their p50": late <= 3 * middle,
        "none hung, none was cut off": set(counts) <= {200, 503},
    }
    return rows, promises


async def _crowd(server: victim.Victim, args) -> tuple[collections.Counter, list[float], list[float]]:
    body, headers = victim.form([("image", "a.jpg", victim.photo(400, 300))])
    head = f"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Type: {headers['Content-Type']}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    counts: collections.Counter = collections.Counter()
    served: list[float] = []
    refused: list[float] = []
    end = time.monotonic() + args.seconds

    async def client() -> None:
        while time.monotonic() < end:
            start = time.monotonic()
            try:
                status, wait = await asyncio.wait_for(_ask(server.port, request), HUNG)
            except TimeoutError:
                counts["hung"] += 1
                continue
            except (OSError, asyncio.IncompleteReadError) as error:
                counts[type(error).__name__] += 1
                continue
            counts[status] += 1
            (served if status == 200 else refused).append(time.monotonic() - start)
            if status == 503:
                await asyncio.sleep(wait)

    await asyncio.gather(*(client() for _ in range(args.clients)))
    return counts, served, refused


async def _ask(port: int, request: bytes) -> tuple[int, float]:
    """One request on a connection of its own: status and Retry-After."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        writer.write(request)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        await reader.readexactly(int(fields["content-length"]))
        return int(head.split(" ", 2)[1]), float(fields.get("retry-after", 1))
    finally:
        writer.close()
