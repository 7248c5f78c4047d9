"""Engines that need no TensorFlow, pictures, and a server in this process."""

from __future__ import annotations

import base64
import http.client
import io
import threading

import cv2
import numpy as np

from tfllv.serve import app, engine, limits, refusals, registry, request_log, service, transport
from tfllv.serve.batching import Batcher
from tfllv.serve.engine import Result, Signature, Tensor


class Brighten(engine.Engine):
    """Adds 10 levels; finds one box and three classes; waits for `gate` where it is closed."""

    def __init__(self, name="toy", version=1, tasks=(engine.ENHANCE, engine.SEGMENT, engine.DETECT), masks=False):
        self.name, self.version, self.tasks = name, version, frozenset(tasks)
        self.facts = {"kind": "toy", "classes": {0: "floor", 1: "lamp", 2: "cat"}}
        self.batches, self.fail, self.masks = [], None, masks
        self.gate = threading.Event()
        self.gate.set()

    def run(self, batch):
        assert self.gate.wait(30)
        self.batches.append(len(batch))
        if self.fail:
            self.fail(batch)
        return [self._one(image) for image in batch]

    def _one(self, image):
        top = np.iinfo(image.dtype).max
        labels = np.zeros(image.shape[:2], np.uint8)
        labels[: len(labels) // 2] = 1
        found = {
            "boxes": np.array([[0.25, 0.25, 0.75, 0.5], [0, 0, 0.5, 0.5], [0, 0, 1.2, 1]], np.float32),
            "scores": np.array([0.4, 0.9, 0.1], np.float32),
            "classes": np.array([1.0, 2.0, 7.0], np.float32),
        }
        if self.masks:
            found["masks"] = np.ones((3, 7, 7), np.float32)
        return Result(np.minimum(image.astype(np.int64) + 10, top).astype(image.dtype), labels, found)

    @property
    def signatures(self):
        image, encoded = Tensor("float32", (-1, -1, -1, 3)), Tensor("str", (-1,))
        return {
            "serving_default": Signature({"image": image}, {"image": image}),
            "serving_bytes": Signature({"image_bytes": encoded}, {"image_bytes": encoded}),
        }

    def predict(self, signature, inputs, limits):
        assert self.gate.wait(30)
        if signature == "serving_bytes":
            return dict(inputs)
        return {"image": inputs["image"] / 2}


def make_registry(*engines, **options):
    """A registry of engines that are already there."""
    limit = limits.Limits(**options)
    found = registry.Registry({}, ["gamma"], limits=limit)
    found.models.clear()
    for one in engines:
        model = registry.Model(one.name, engine=one)
        model.batcher = Batcher(one.name, one.workers, limit, lambda size, name=one.name: found.observe(name, size))
        found.models[one.name] = model
    return found


def make_service(*engines, token=None, log=None, **options):
    return service.Service(
        make_registry(*(engines or [Brighten()]), **options), token=token, log=request_log.RequestLog(log)
    )


class Running:
    """A server in a thread of this process.

    Attributes:
      log: what it has logged.
    """

    def __init__(self, *engines, token=None, **options):
        self.log = io.StringIO()
        self.service = make_service(*engines, token=token, log=self.log, **options)
        self.transport = transport.Transport(app.create_app(self.service), self.service, port=0)
        self.port = int(self.transport.addresses[0].rpartition(":")[2])
        self.thread = threading.Thread(target=self.transport.run, daemon=True)
        self.thread.start()

    def connect(self, timeout=20):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def post(self, path="/enhance", data=None, timeout=20):
        """Posts a picture; returns status, headers and body."""
        body, kind = form([("image", "a.png", png() if data is None else data)])
        connection = self.connect(timeout)
        try:
            connection.request("POST", path, body, {"Content-Type": kind})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path):
        connection = self.connect()
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def close(self):
        self.transport.stop()
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.service.registry.close()


def form(files, boundary="----tfllv"):
    """A multipart body of (field, name, bytes), and its Content-Type."""
    parts = []
    for field, name, data in files:
        head = f'Content-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: image/png\r\n'
        parts.append(f"--{boundary}\r\n{head}\r\n".encode() + data + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def picture(height=24, width=32, seed=0, channels=3, dtype=np.uint8):
    top = np.iinfo(dtype).max // 4
    small = np.random.default_rng(seed).integers(0, top, (4, 5, channels)).astype(dtype)
    return cv2.resize(small, (width, height))


def png(pixels=None, suffix=".png"):
    return cv2.imencode(suffix, picture() if pixels is None else pixels)[1].tobytes()


def decode(data):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def b64(data):
    return {"b64": base64.b64encode(data).decode()}


RefusalError = refusals.RefusalError
