"""SIGTERM under load."""

from __future__ import annotations

import itertools
import threading
import time

from attacks import victim

CLIENTS, ROUNDS = 24, 6
BEFORE = 2.0  # seconds of load before the signal
OUTCOMES = ("200", "503", "no connection", "cut off")


def run(args) -> tuple[list[dict], dict[str, bool]]:
    """Stops a server that many clients are asking; compares what they got with what the server says it took."""
    rows = [_stop_once(args, kept=number % 2 == 1) for number in range(ROUNDS)]
    return rows, {
        "0 accepted requests were lost": all(row["lost"] == 0 for row in rows),
        "the server ended with exit code 0": all(row["exit code"] == 0 for row in rows),
    }


def _stop_once(args, *, kept: bool) -> dict:
    outcomes: dict[str, str] = {}
    body, headers = victim.form([("image", "a.jpg", victim.photo(900, 600))])
    with victim.serve(args) as server:
        server.ask("POST", "/enhance", body, headers)
        stopped = threading.Event()

        def client(number: int) -> None:
            connection = server.connect(timeout=60)
            for count in itertools.count():
                name = f"{number}-{count}"
                outcomes[name] = _outcome(connection, body, {**headers, "X-Request-ID": name})
                if stopped.is_set() or outcomes[name] == "no connection":
                    return
                if not kept or outcomes[name] != "200":
                    connection.close()
                if outcomes[name] == "503":
                    time.sleep(0.05)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(BEFORE)
        start = time.monotonic()
        server.terminate()
        code = server.process.wait(timeout=120)
        seconds = round(time.monotonic() - start, 2)
        stopped.set()
        for thread in threads:
            thread.join()
        log = server.log()
    return {
        "connections": "kept" if kept else "fresh",
        **{name: sum(found == name for found in outcomes.values()) for name in OUTCOMES},
        "lost": _lost(outcomes, log),
        "seconds": seconds,
        "exit code": code,
    }


def _lost(outcomes: dict[str, str], log: list[dict]) -> int:
    """Requests that the server took, by its own account, and whose whole answer no client has."""
    answered = {line["id"]: str(line["status"]) for line in log if line["event"] == "request"}
    missed = sum(name in answered and answered[name] != found for name, found in outcomes.items())
    given_up = [line["lost"] for line in log if line["event"] == "stopped"]
    return missed + (given_up[-1] if given_up else 1)


def _outcome(connection, body: bytes, headers: dict[str, str]) -> str:
    """What became of one request."""
    if connection.sock is None:
        try:
            connection.connect()
        except OSError:
            return "no connection"
    try:
        connection.request("POST", "/enhance", body, headers)
        answer = connection.getresponse()
        whole = len(answer.read()) == int(answer.headers["Content-Length"])
        return str(answer.status) if whole else "cut off"
    except Exception:  # whatever it is, this request has no answer
        return "cut off"
