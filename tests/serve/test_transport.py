from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time

import numpy as np
import pytest

SOON = 20.0
_watched: list[list[str]] = []


def _audit(event, args):
    """Notes every file that is opened to be written, and every temporary name."""
    if _watched and (
        event.startswith("tempfile.") or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"))
    ):
        _watched[-1].append(f"{event} {args}")


def wait_for(condition):
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def speak(server, data, *, close=True):
    """Sends raw bytes and returns all that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=SOON) as connection:
        connection.sendall(data)
        if close:
            connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
        return b"".join(parts)


def json_of(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])


def start(pool, *args):
    thread = threading.Thread(target=lambda: pool.append(args[0](*args[1:])))
    thread.start()
    return thread


def test_a_picture_goes_through_and_many_requests_share_a_connection(server, toy):
    running = server()
    connection = running.connect()
    for _ in range(3):
        body, kind = toy.form([("image", "a.png", toy.png())])
        connection.request("POST", "/enhance", body, {"Content-Type": kind})
        answer = connection.getresponse()
        assert answer.status == 200
        assert np.array_equal(toy.decode(answer.read()), toy.decode(toy.png()) + 10)
        assert answer.headers["Server"] is None and answer.headers["Cache-Control"] == "no-store"
    connection.close()


def test_nothing_of_a_large_upload_or_answer_touches_the_disk(server, toy):
    if not _watched:
        sys.addaudithook(_audit)
    running = server()
    noise = np.random.default_rng(0).integers(0, 200, (900, 900, 3), np.uint8)
    body, kind = toy.form([("images", "a.png", toy.png(noise)), ("images", "b.png", toy.png(noise))])
    assert len(body) > 4_000_000
    _watched.append([])
    try:
        status, _, data = running.post("/enhance", toy.png(noise))
        assert status == 200 and len(data) > 2_000_000
        connection = running.connect()
        connection.request("POST", "/batch_enhance", body, {"Content-Type": kind})
        answer = connection.getresponse()
        assert answer.status == 200 and len(answer.read()) > 4_000_000
        connection.close()
        assert _watched[-1] == []
    finally:
        _watched.pop()


def test_the_disk_is_watched():
    import tempfile

    sys.addaudithook(_audit)
    _watched.append([])
    with tempfile.TemporaryFile():
        pass
    assert _watched.pop()


def test_a_body_too_large_is_refused_by_its_header_and_the_client_sees_why(server, toy):
    running = server(max_bytes=1000, max_request_bytes=20_000)
    for size in (30_000, 70_000):
        status, headers, data = running.post("/enhance", b"x" * size)
        assert (status, json.loads(data)["error"]) == (413, "too_large")
        assert headers["X-Content-Type-Options"] == "nosniff"
    answer = speak(running, b"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", close=False)
    assert answer.startswith(b"HTTP/1.1 413 ")
    head = b"POST /enhance HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 50000\r\n\r\n"
    assert speak(running, head, close=False).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("head", "status", "error"),
    [
        (b"POST /enhance HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", 411, "length_required"),
        (b"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400, "bad_request"),
        (b"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 6\r\n\r\n", 400, "bad_request"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431, "header_too_large"),
        (b"nonsense\r\n\r\n", 400, "bad_request"),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400, "bad_request"),
    ],
)
def test_what_the_application_never_sees_is_refused_in_json_too(head, status, error, server):
    answer = speak(server(), head, close=False)
    assert answer.startswith(f"HTTP/1.{answer[7] - 48} {status} ".encode())
    assert json_of(answer)["error"] == error
    assert b"no-store" in answer


def test_one_request_too_many_is_told_when_to_come_again_while_probes_are_answered(server, toy):
    slow = toy.Brighten()
    slow.gate.clear()
    running = server(slow, concurrency=1, max_queue=2)
    answers: list = []
    threads = []
    for number in range(3):
        threads.append(start(answers, running.post))
        wait_for(
            lambda number=number: (
                running.transport._dispatcher.active_count + len(running.transport._dispatcher.queue) == number + 1
            )
        )
    status, headers, data = running.post()
    assert (status, json.loads(data)["error"]) == (503, "busy")
    assert int(headers["Retry-After"]) >= 1
    assert running.get("/healthz")[0] == 200
    assert b"tfllv_queue_requests 2" in running.get("/metrics")[1]
    slow.gate.set()
    for thread in threads:
        thread.join()
    assert [status for status, _, _ in answers] == [200, 200, 200]


def test_bodies_in_transfer_are_bounded_together(server, toy):
    running = server(max_bytes=60_000, max_request_bytes=60_000, memory=100_000)
    head = b"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Length: 50000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port)) as first:
        first.sendall(head + b"x" * 10)
        wait_for(lambda: running.transport._held() == 50_000)
        with socket.create_connection(("127.0.0.1", running.port)) as second:
            second.sendall(head)
            wait_for(lambda: running.transport._held() == 100_000)
            status, _, data = running.post("/enhance", toy.png())
            assert (status, json.loads(data)["error"]) == (503, "busy")
    wait_for(lambda: running.transport._held() == 0)
    assert running.post()[0] == 200


def test_a_request_that_drips_is_ended(server):
    running = server(transfer_timeout=0.3)
    with socket.create_connection(("127.0.0.1", running.port), timeout=SOON) as connection:
        connection.sendall(b"POST /enhance HTTP/1.1\r\nHost: x\r\n")
        started = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() < started + SOON:
                connection.sendall(b"X-A: b\r\n")
                time.sleep(0.05)


def test_an_answer_that_nobody_fetches_is_ended(server, toy):
    running = server(transfer_timeout=0.3, transfer_rate=1 << 30)
    noise = np.random.default_rng(0).integers(0, 200, (1500, 1500, 3), np.uint8)
    body, kind = toy.form([("image", "a.png", toy.png(noise))])
    head = f"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", running.port))
        connection.sendall(head.encode() + body)
        wait_for(lambda: running.transport._held() > 1_000_000)
        wait_for(lambda: not running.transport._channels())
        assert running.transport._held() == 0


def test_a_transfer_that_goes_on_fast_enough_is_not_ended(server, toy):
    running = server(transfer_timeout=0.2, transfer_rate=1000)
    body, kind = toy.form([("image", "a.png", toy.png(toy.picture(64, 64)))])
    head = f"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=SOON) as connection:
        connection.sendall(head.encode() + body[: len(body) // 2])
        time.sleep(1)  # five times the timeout, but what has come allows for more
        connection.sendall(body[len(body) // 2 :])
        assert connection.recv(20).startswith(b"HTTP/1.1 200 ")


def test_readers_of_zips_never_hold_all_workers(server, toy):
    slow = toy.Brighten()
    slow.gate.clear()
    running = server(slow, concurrency=2)
    body, kind = toy.form([("images", "a.png", toy.png())])
    answers: list = []

    def batch():
        connection = running.connect()
        connection.request("POST", "/batch_enhance", body, {"Content-Type": kind})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    thread = start(answers, batch)
    wait_for(lambda: running.transport._dispatcher.active_count == 1)
    wait_for(lambda: not running.service._streams._value)
    assert batch()[0] == 503
    slow.gate.set()
    assert running.post()[0] == 200
    thread.join()
    assert answers[0][0] == 200
    assert batch()[0] == 200  # its place is free again


def test_only_post_may_have_a_body(server):
    running = server()
    head = b" /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n"
    for verb in (b"GET", b"PUT"):
        answer = speak(running, verb + head + bytes(90_000), close=False)
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_told_to_stop_the_server_finishes_what_it_accepted_and_refuses_what_is_new(server, toy):
    slow = toy.Brighten()
    slow.gate.clear()
    running = server(slow, concurrency=1)
    answers: list = []
    threads = [start(answers, running.post) for _ in range(3)]
    arriving = socket.create_connection(("127.0.0.1", running.port), timeout=SOON)
    body, kind = toy.form([("image", "a.png", toy.png())])
    head = f"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    arriving.sendall(head.encode() + body[:50])
    wait_for(lambda: sum(len(item.requests) for item in running.transport._channels()) == 3)
    wait_for(lambda: any(item.request for item in running.transport._channels()))
    running.transport.stop()
    wait_for(lambda: running.service.stopping)
    status, _, data = running.post()
    assert (status, json.loads(data)["error"]) == (503, "stopping")
    assert running.get("/readyz")[0] == 503
    assert running.get("/healthz")[0] == 200
    slow.gate.set()
    arriving.sendall(body[50:])
    assert arriving.recv(20).startswith(b"HTTP/1.1 200 ")
    arriving.close()
    for thread in threads:
        thread.join()
    assert [status for status, _, _ in answers] == [200, 200, 200]
    running.thread.join(SOON)
    assert not running.thread.is_alive()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", running.port), timeout=1)


def test_what_does_not_end_in_time_is_given_up(server, toy):
    stuck = toy.Brighten()
    stuck.gate.clear()
    running = server(stuck, grace=0.2)
    with socket.create_connection(("127.0.0.1", running.port)) as connection:
        connection.sendall(b"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n")
        wait_for(lambda: any(item.request for item in running.transport._channels()))
        running.transport.stop()
        running.thread.join(SOON)
        assert not running.thread.is_alive()
    stuck.gate.set()


def test_a_client_that_has_gone_is_not_worked_for(server, toy):
    slow = toy.Brighten()
    slow.gate.clear()
    running = server(slow, concurrency=1)
    answers: list = []
    thread = start(answers, running.post)
    wait_for(lambda: running.transport._dispatcher.active_count == 1)
    body, kind = toy.form([("image", "a.png", toy.png())])
    head = f"POST /enhance HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port)) as gone:
        gone.sendall(head.encode() + body)
        wait_for(lambda: len(running.transport._dispatcher.queue) == 1)
    wait_for(lambda: len(running.transport._channels()) == 1)
    slow.gate.set()
    thread.join()
    wait_for(lambda: not running.transport._dispatcher.queue)
    assert running.post()[0] == 200
    assert sum(slow.batches) == 2


def test_the_log_tells_what_was_refused_before_the_application_saw_it(server):
    running = server()
    speak(running, b"POST /enhance HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", close=False)
    wait_for(lambda: "length_required" in running.log.getvalue())
    (line,) = [json.loads(line) for line in running.log.getvalue().splitlines()]
    assert (line["event"], line["status"], line["method"]) == ("request", 411, "POST")
    assert re.search(rb'requests_total\{route="none",status="411"\} 1', running.get("/metrics")[1])
