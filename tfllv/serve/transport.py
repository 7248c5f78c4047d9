"""Waitress with limits: what a request may take is settled when its header is there, before its body is.

Waitress alone reads every body whole, large ones into temporary files, and queues every request without bound. Here

- a request is refused by its header where it is too large, has no length, or there is no room or memory for it; its
  body is then read past, not kept, so that the client gets to see the answer;
- bodies and answers stay in memory, and all of them together are bounded;
- requests that cost work wait in a bounded queue with threads of their own, so that probes are always answered;
- a transfer that takes too long is ended, however steadily it drips;
- told to stop, the server answers new requests 503, finishes what it had accepted, and ends.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import threading
import time
from typing import Any

from waitress import adjustments, channel, parser, server, task, wasyncore

from tfllv.serve import refusals, request_log, security
from tfllv.serve.app import ARRIVAL
from tfllv.serve.limits import Limits
from tfllv.serve.refusals import RefusalError
from tfllv.serve.service import Service

_NEVER = 1 << 60  # bytes after which Waitress would use a file
_HEADER_BYTES = 16 << 10
_READ_PAST = 4  # a body of at most this many times the limit is read past; a longer one ends the connection
_LIGHT_THREADS = 2
_WATERMARK = 32 << 20  # bytes of an answer that are made ahead of what the client has fetched
_KEEP_ALIVE = 75  # seconds
_LOOK = 0.5  # seconds between two looks for transfers that take too long
_LINGER = 0.3  # seconds without any request after which a server that is to stop ends
_log = logging.getLogger("tfllv.serve")


class _KeptRefusal:
    """A refusal in the form in which Waitress keeps errors."""

    def __init__(self, refusal: RefusalError):
        self.refusal = refusal

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        refusal = self.refusal
        headers = {**security.HEADERS, **refusal.headers()}
        return f"{refusal.status} {refusal.reason()}", list(headers.items()), refusal.body()


class _Parser(parser.HTTPRequestParser):
    """Reads a request; refuses it at its header where it must be."""

    transport: Transport

    def __init__(self, adj: Any):
        super().__init__(adj)
        self.arrival = time.monotonic()
        self.expect_continue = False
        self.content_length: int = 0
        self._left = 0  # bytes of a refused body that are still to be read past

    def received(self, data: bytes) -> int:
        if self._left:
            taken = min(len(data), self._left)
            self._left -= taken
            self.completed = not self._left
            return taken
        return super().received(data)

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        refusal = self.transport.check(self)
        if refusal is None:
            return
        self.error, self.chunked = _KeptRefusal(refusal), False
        length: int = self.content_length
        self.content_length, self.body_rcv = 0, None
        if not self.expect_continue and length <= _READ_PAST * self.adj.max_request_body_size:
            self._left = length
            if length:
                self.body_rcv = _Nothing()  # the request is complete when it has been read past
        self.expect_continue = False


class _Nothing:
    """Stands for the body of a refused request."""

    completed = True
    error = None

    def __len__(self) -> int:
        return 0

    def getbuf(self) -> _Nothing:
        return self

    def close(self) -> None:
        """Nothing is held."""


class _ErrorTask(task.ErrorTask):
    """Answers what was refused before the application saw it: as JSON, and noted in the log."""

    def execute(self) -> None:
        if not isinstance(self.request.error, _KeptRefusal):
            code = getattr(self.request.error, "code", 400)
            word = {413: "too_large", 431: "header_too_large", 500: "internal"}.get(code, "bad_request")
            detail = "The server failed." if code == 500 else str(self.request.error.body)[:200]
            self.request.error = _KeptRefusal(RefusalError(code, word, detail))
        super().execute()
        self.channel.server.transport.note(self.request, self.channel)


class _Task(task.WSGITask):
    """Tells the application when the request's first bytes came."""

    def get_environment(self) -> dict[str, Any]:
        environ = super().get_environment()
        environ[ARRIVAL] = self.request.arrival
        return environ


class _Channel(channel.HTTPChannel):
    """A connection."""

    task_class = _Task
    error_task_class = _ErrorTask
    sending_since: float | None = None  # when there was first an answer to send, of those that are not fetched yet
    sent = 0  # bytes since then

    @property
    def new(self) -> bool:
        """Whether it was opened less than a second ago, and has not been heard of."""
        return time.time() - self.creation_time < 1 and self.last_activity == self.creation_time

    @property
    def held(self) -> int:
        """Bytes of bodies and answers in memory, and those that are announced."""
        incoming = [*self.requests, *([self.request] if self.request else [])]
        return self.total_outbufs_len + sum(request.content_length for request in incoming)

    def send(self, data: bytes, do_close: bool = True) -> int:
        sent = super().send(data, do_close)
        self.sent += sent
        return sent

    def overdue(self, now: float, limits: Limits) -> bool:
        """Whether a request arrives, or its answer is fetched, more slowly than it may."""
        request = self.request
        if request is not None:
            allowed = limits.transfer_timeout + request.body_bytes_received / limits.transfer_rate
            if now - request.arrival > allowed:
                return True
        if not self.total_outbufs_len:
            self.sending_since = None
        elif self.sending_since is None:
            self.sending_since, self.sent = now, 0
        elif now - self.sending_since > limits.transfer_timeout + self.sent / limits.transfer_rate:
            return True
        return False


class _Dispatcher(task.ThreadedTaskDispatcher):
    """Requests that cost work wait in a bounded queue; the others have threads that never do."""

    def __init__(self, threads: int, max_queue: int):
        super().__init__()
        self.queue_logger = logging.getLogger("tfllv.serve.queue")
        self.queue_logger.disabled = True  # a queue that fills is no event; `/metrics` shows it
        self._max_queue, self._count = max_queue, threads
        self.light = task.ThreadedTaskDispatcher()
        self.light.queue_logger = self.queue_logger
        self.set_thread_count(threads)
        self.light.set_thread_count(_LIGHT_THREADS)

    @property
    def full(self) -> bool:
        """Whether one more request is one too many."""
        return len(self.queue) >= self._max_queue + max(0, self._count - self.active_count)

    def add_task(self, item: Any) -> None:
        request = item.requests[0]
        if request.error is None and request.command == "POST":
            if not self.full:
                super().add_task(item)
                return
            request.error = _KeptRefusal(refusals.busy(1 + len(self.queue) / (4 * self._count)))
        self.light.add_task(item)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        return self.light.shutdown(cancel_pending, timeout) | super().shutdown(cancel_pending, timeout)


class _Server(server.TcpWSGIServer):
    """One listening socket."""

    channel_class = _Channel
    transport: Transport

    def close_door(self) -> None:
        """Takes in who has knocked already, and lets nobody else knock; threads can still wake the loop."""
        for _ in range(self.adj.backlog):
            inside = len(self._map)
            self.handle_accept()
            if len(self._map) == inside:
                break
        self.accepting = False
        wasyncore.dispatcher.close(self)


class Transport:
    """The HTTP server.

    Args:
      app: the WSGI application.
      service: whose limits hold.
      host: address to listen at.
      port: 0 takes a free one.
      trusted_proxy: address of a proxy whose `X-Forwarded-For`, `-Proto` and `-Host` are believed; None: of none.

    Raises:
      OSError: if the address is taken.
    """

    def __init__(
        self, app: Any, service: Service, *, host: str = "127.0.0.1", port: int = 5000, trusted_proxy: str | None = None
    ):
        limits = service.limits
        self._service, self._limits = service, limits
        self._stop = threading.Event()
        proxy: dict[str, Any] = {}
        if trusted_proxy:
            headers = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"}
            proxy = {"trusted_proxy": trusted_proxy, "trusted_proxy_headers": " ".join(headers)}
        adj = adjustments.Adjustments(
            host=host,
            port=port,
            threads=limits.workers,
            ident=None,
            inbuf_overflow=_NEVER,
            outbuf_overflow=_NEVER,
            outbuf_high_watermark=_WATERMARK,
            recv_bytes=256 << 10,
            backlog=2048,
            connection_limit=_open_files(limits.max_connections),
            cleanup_interval=1,
            channel_timeout=_KEEP_ALIVE,
            max_request_header_size=_HEADER_BYTES,
            max_request_body_size=limits.max_request_bytes + 1,
            asyncore_use_poll=True,
            channel_request_lookahead=1,  # a client that has gone is noticed before its request is begun
            log_socket_errors=False,
            **proxy,
        )
        self._dispatcher = _Dispatcher(limits.workers, limits.max_queue)
        transport = self

        class BoundParser(_Parser):
            transport = self

        class BoundChannel(_Channel):
            parser_class = BoundParser

        class BoundServer(_Server):
            channel_class = BoundChannel

        BoundServer.transport = transport
        self._map: dict[int, Any] = {}
        self._servers = [
            BoundServer(app, self._map, dispatcher=self._dispatcher, adj=adj, sockinfo=info) for info in adj.listen
        ]
        service.metrics.describe("tfllv_queue_requests", "Requests that wait.", lambda: len(self._dispatcher.queue))
        service.metrics.describe("tfllv_connections", "Open connections.", lambda: len(self._channels()))
        service.metrics.describe("tfllv_transfer_bytes", "Bytes of bodies and answers held.", lambda: self._held())

    @property
    def addresses(self) -> list[str]:
        """What it listens at."""
        hosts = [(server.effective_host, server.effective_port) for server in self._servers]
        return [f"http://{f'[{host}]' if ':' in host else host}:{port}" for host, port in hosts]

    def check(self, request: _Parser) -> RefusalError | None:
        """Says why a request is refused, by its header alone; None lets it in."""
        limits = self._limits
        if request.chunked:
            return RefusalError(411, "length_required", "The body's length must be sent: Content-Length, not chunks.")
        if request.content_length > limits.max_request_bytes:
            return RefusalError(
                413,
                "too_large",
                f"A request must have at most {limits.max_request_bytes:,} bytes. Received: "
                f"{request.content_length:,}.",
            )
        if request.command != "POST":
            return RefusalError(413, "too_large", "Only POST may have a body.") if request.content_length else None
        if self._stop.is_set():
            return refusals.stopping()
        # This request is among those that are held; one that is larger than all comes in alone.
        if self._dispatcher.full or self._held() > max(limits.memory, request.content_length):
            return refusals.busy(1)
        return None

    def _channels(self) -> list[_Channel]:
        return [item for item in list(self._map.values()) if isinstance(item, _Channel)]

    def _held(self) -> int:
        return sum(item.held for item in self._channels())

    def _end_overdue(self) -> None:
        """Ends the transfers that take too long, at once: a client that does not read takes no farewell either."""
        now = time.monotonic()
        for item in self._channels():
            if item.overdue(now, self._limits):
                self._service.metrics.count("tfllv_overdue_transfers_total")
                item.handle_close()

    def note(self, request: Any, where: _Channel) -> None:
        """Logs and counts a request that the application never saw."""
        refusal = request.error.refusal
        self._service.metrics.count("tfllv_requests_total", {"route": "none", "status": str(refusal.status)})
        given = getattr(request, "headers", {}).get("X_REQUEST_ID")
        self._service.log.write(
            "request",
            id=request_log.request_id(given),
            client=where.addr[0] if where.addr else None,
            method=getattr(request, "command", None),
            status=refusal.status,
            error=refusal.error,
            ms=round((time.monotonic() - request.arrival) * 1000, 2),
        )

    def run(self) -> None:
        """Serves until `stop` is called, and then until what was accepted is done."""
        looked = 0.0
        while not self._stop.is_set():
            wasyncore.poll2(timeout=_LOOK, map=self._map)
            if time.monotonic() - looked >= _LOOK:
                self._end_overdue()
                looked = time.monotonic()
        self._service.stopping = True
        self._finish(time.monotonic() + self._limits.grace)
        lost = sum(len(item.requests) or bool(item.total_outbufs_len) for item in self._channels())
        self._service.log.write("stopped", lost=lost)
        self._dispatcher.shutdown()
        wasyncore.close_all(self._map)

    def _finish(self, end: float) -> None:
        """Finishes what was accepted, then closes the door, then answers those who are still inside."""
        while self._accepted() and time.monotonic() < end:
            wasyncore.poll2(timeout=_LINGER / 10, map=self._map)
            self._end_overdue()
        for listener in self._servers:
            listener.close_door()
        last = quiet = time.monotonic() + _LINGER
        while time.monotonic() < min(quiet, last + 10 * _LINGER):
            wasyncore.poll2(timeout=_LINGER / 10, map=self._map)
            # One who has come in just now may not have said yet what is wanted.
            if any(item.requests or item.request or item.total_outbufs_len or item.new for item in self._channels()):
                quiet = time.monotonic() + _LINGER

    def _accepted(self) -> bool:
        """Whether a request that was let in is arriving, in work, or its answer not fetched."""
        for item in self._channels():
            known = [*item.requests, *([item.request] if item.request else [])]
            if item.total_outbufs_len or any(request.error is None for request in known):
                return True
        return False

    def stop(self) -> None:
        """Tells the server to stop; may be called by a signal handler."""
        self._stop.set()
        for listener in self._servers:
            with contextlib.suppress(OSError):
                listener.pull_trigger()


def _open_files(wanted: int) -> int:
    """Raises the limit of open files so that `wanted` connections fit; returns how many do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + 200
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, soft - 200))
