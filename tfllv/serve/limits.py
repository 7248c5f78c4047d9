"""What one request, and all of them together, may take. Every limit is on unless it is changed."""

from __future__ import annotations

import dataclasses
import os

_MEGABYTE = 1 << 20


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server.

    Attributes:
      max_bytes: of one picture as it is sent.
      max_request_bytes: of a request's body, all pictures together.
      max_pixels: of one picture, by its header, before it is decoded; as many as an exported signature takes.
      max_files: pictures of one request.
      max_numbers: of a JSON body; each takes some 30 bytes of memory. Larger pictures are sent as bytes.
      concurrency: requests in work at once; 0 takes two more than there are cores, so that pictures are decoded and
        encoded while a network computes.
      max_queue: requests that wait; one more is answered 503.
      max_batch: pictures of equal size that a network takes at once.
      max_batch_pixels: of such a batch, together.
      timeout: seconds from a request's arrival to its answer, for each of its pictures.
      transfer_timeout: seconds for a request to arrive whole, or its answer to be fetched, ...
      transfer_rate: ... and as many more as it takes at so many bytes a second.
      max_connections: open at once.
      memory: bytes of pictures in work, and again of bodies and answers in transfer.
      grace: seconds to finish what was accepted, once told to stop.
    """

    max_bytes: int = 32 * _MEGABYTE
    max_request_bytes: int = 128 * _MEGABYTE
    max_pixels: int = 50_000_000
    max_files: int = 50
    max_numbers: int = 4_000_000
    concurrency: int = 0
    max_queue: int = 32
    max_batch: int = 8
    max_batch_pixels: int = 4_000_000
    timeout: float = 60.0
    transfer_timeout: float = 30.0
    transfer_rate: int = 64 << 10
    max_connections: int = 2000
    memory: int = 1024 * _MEGABYTE
    grace: float = 60.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            low = 0 if field.name in ("concurrency", "max_queue") else 1
            if field.name not in ("timeout", "transfer_timeout", "grace") and not (
                isinstance(value, int) and value >= low
            ):
                raise ValueError(f"`{field.name}` must be a whole number >= {low}. Received: {value}.")
            if not value >= 0 or value == float("inf"):
                raise ValueError(f"`{field.name}` must be a finite number >= 0. Received: {value}.")
        if self.max_request_bytes < self.max_bytes:
            raise ValueError(
                f"`max_request_bytes` must be at least `max_bytes`. Received: {self.max_request_bytes} and "
                f"{self.max_bytes}."
            )

    @property
    def workers(self) -> int:
        """Requests in work at once."""
        return self.concurrency or cores() + 2

    @property
    def streams(self) -> int:
        """Of these, those whose answer is sent while it is made: a slow reader must not hold all workers."""
        return max(1, self.workers // 2)
