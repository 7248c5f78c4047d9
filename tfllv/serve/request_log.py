"""Structured logs: one JSON object a line and a request; no picture, no file name, no token."""

from __future__ import annotations

import datetime
import json
import logging
import re
import secrets
import sys
import threading
from typing import Any, TextIO

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id(given: str | None) -> str:
    """Returns the client's `X-Request-ID` where it is a plain word, else a new one."""
    return given if given and _ID.fullmatch(given) else secrets.token_hex(8)


class RequestLog:
    """Writes the lines.

    Args:
      stream: where to; None writes nothing.
    """

    def __init__(self, stream: TextIO | None = sys.stdout):
        self._stream, self._lock = stream, threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        """Writes one line; fields that are None are left out."""
        if self._stream is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = {"time": now, "event": event, **{key: value for key, value in fields.items() if value is not None}}
        line = json.dumps(content, ensure_ascii=True, default=str) + "\n"
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):  # a log that cannot be written must not cost an answer
                pass


class Handler(logging.Handler):
    """Sends what is logged by `logging` to a `RequestLog`, so that there is one kind of line."""

    def __init__(self, log: RequestLog):
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record as one line."""
        fields = getattr(record, "fields", {})
        if record.exc_info and record.exc_info[0]:
            fields = {**fields, "exception": self.formatter_text(record)}
        self._log.write(record.getMessage(), level=record.levelname.lower(), **fields)

    def formatter_text(self, record: logging.LogRecord) -> str:
        """The traceback of a record, as one string."""
        return logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
