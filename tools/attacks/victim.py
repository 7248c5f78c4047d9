"""A server to attack: `tfllv serve` in a process of its own, its memory watched from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parent.parent.parent
MEGABYTE = 1 << 20


class Victim:
    """A running server.

    Attributes:
      port: where it listens.
      model: the name of the model that enhances.
    """

    def __init__(self, process: subprocess.Popen, port: int, model: str, log: pathlib.Path):
        self.process, self.port, self.model, self._log = process, port, model, log

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        """Opens a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict | None = None) -> tuple[int, bytes]:
        """One request on a connection of its own: status and body."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def enhance(self, data: bytes, path: str = "/enhance") -> tuple[int, bytes]:
        """Posts a picture."""
        body, headers = form([("image", "photo.jpg", data)])
        return self.ask("POST", path, body, headers)

    def memory(self) -> int:
        """Resident bytes now."""
        return self._status("VmRSS")

    def peak(self) -> int:
        """The most resident bytes since `reset_peak`."""
        return self._status("VmHWM")

    def reset_peak(self) -> None:
        """Starts to measure `peak` anew."""
        pathlib.Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def cpu(self) -> float:
        """Seconds that its threads have computed: what a request costs, however busy the machine is."""
        total = 0
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # a thread that has just ended
                total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9

    def _status(self, field: str) -> int:
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise OSError(f"no {field} for process {self.process.pid}")

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def log(self) -> list[dict]:
        """The lines it has logged."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]


@contextlib.contextmanager
def serve(args, *words: str) -> Iterator[Victim]:
    """Starts a server with `args.model`, or the bundled sgz, and more words; waits until it is ready."""
    model = ["--model", f"sgz={args.model}"] if args.model else ["--method", "sgz"]
    with start([*model, *words]) as victim:
        yield victim


@contextlib.contextmanager
def start(words: list[str]) -> Iterator[Victim]:
    """Starts a server of a model named sgz with these words; waits until it is ready."""
    command = [sys.executable, "-m", "tfllv", "serve", "--port", "0", *words]
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "log"
        with log.open("w") as file:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env={**os.environ})
        try:
            victim = Victim(process, _port(process, log), "sgz", log)
            while victim.ask("GET", "/readyz")[0] != 200:
                time.sleep(0.1)
            yield victim
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _port(process: subprocess.Popen, log: pathlib.Path) -> int:
    while process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == "listening":
                return int(json.loads(line)["addresses"][0].rpartition(":")[2])
        time.sleep(0.05)
    raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")


def form(files: list[tuple[str, str, bytes]]) -> tuple[bytes, dict[str, str]]:
    """A multipart body of (field, name, bytes), and its headers."""
    parts = []
    for field, name, data in files:
        head = f'--attack\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + b"--attack--\r\n", {"Content-Type": "multipart/form-data; boundary=attack"}


def photo(width: int = 1200, height: int = 800) -> bytes:
    """A JPEG of a bundled photograph at a size of one's own."""
    import cv2

    pixels = cv2.imread(str(ROOT / "tfllv" / "samples" / "temple.jpg"))
    return cv2.imencode(".jpg", cv2.resize(pixels, (width, height)), [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def settle(victim: Victim, seconds: float = 3.0) -> int:
    """Waits until nothing is going on; returns the resident bytes."""
    time.sleep(seconds)
    victim.ask("GET", "/healthz")
    return victim.memory()
