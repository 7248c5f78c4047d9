"""Why a request is not answered with a result: a status, a word for programs, and a line for people."""

from __future__ import annotations

import http
import json
import math


class RefusalError(Exception):
    """Raised where a request cannot be done; becomes JSON `{"error", "detail"}` with the right status.

    Args:
      status: of HTTP, 4xx or 503.
      error: a word that a program can compare, such as `too_large`.
      detail: one line for people: what was found, what is expected.
      retry_after: seconds after which it may be tried again; only for 429 and 503.
    """

    def __init__(self, status: int, error: str, detail: str, *, retry_after: float | None = None):
        super().__init__(detail)
        self.status = status
        self.error = error
        self.detail = " ".join(detail.split())
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The JSON document."""
        return json.dumps({"error": self.error, "detail": self.detail}, ensure_ascii=False).encode() + b"\n"

    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        result = {"Content-Type": "application/json"}
        if self.retry_after is not None:
            result["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == http.HTTPStatus.UNAUTHORIZED:
            result["WWW-Authenticate"] = "Bearer"
        return result

    def reason(self) -> str:
        """The status's phrase."""
        return http.HTTPStatus(self.status).phrase


def busy(retry_after: float) -> RefusalError:
    """The refusal of one request too many."""
    return RefusalError(503, "busy", "The server is at its limit; try again later.", retry_after=retry_after)


def stopping() -> RefusalError:
    """The refusal of a request that came after the server was told to stop."""
    return RefusalError(503, "stopping", "The server is stopping and takes no new request.", retry_after=5)
