"""What a server does with one picture, whatever the address it came by: decode, compute in its turn, encode."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tfllv import contracts
from tfllv.inputs.image_files import Picture
from tfllv.runner.files import MemoryBudget
from tfllv.serve import engine as engines
from tfllv.serve import pictures
from tfllv.serve.engine import Engine, Result
from tfllv.serve.limits import Limits
from tfllv.serve.metrics import Metrics
from tfllv.serve.pictures import Rendering
from tfllv.serve.refusals import RefusalError, busy
from tfllv.serve.registry import Model, Registry
from tfllv.serve.request_log import RequestLog


@dataclasses.dataclass
class Work:
    """What is known of one request while it is done.

    Attributes:
      deadline: on `time.monotonic`'s clock.
      stages: stage -> seconds, in order; becomes `Server-Timing` and part of the log line.
      facts: fields of the log line.
    """

    deadline: float
    stages: dict[str, float] = dataclasses.field(default_factory=dict)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = self.stages.get(name, 0.0) + time.perf_counter() - start


class Service:
    """The models, the limits, and what is counted.

    Attributes:
      registry: of the models.
      limits: of each request.
      token: that requests must bear; None where anyone may ask.
      metrics: of `/metrics`.
      log: of the requests.
      stopping: whether new work is refused.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        token: str | None = None,
        metrics: Metrics | None = None,
        log: RequestLog | None = None,
    ):
        if token is not None and not token.strip():
            raise ValueError("`token` must not be empty. Received: ''.")
        self.registry, self.limits, self.token = registry, registry.limits, token
        self.metrics, self.log = metrics or Metrics(), log or RequestLog(None)
        self.stopping = False
        self._memory = MemoryBudget(self.limits.memory)
        self._streams = threading.BoundedSemaphore(self.limits.streams)
        registry.observe = lambda name, size: self.metrics.observe("tfllv_batch_size", size, {"model": name})
        self.metrics.describe("tfllv_requests_total", "Requests answered, by route and status.")
        self.metrics.describe("tfllv_request_seconds", "Time from a request's arrival to its whole answer.")
        self.metrics.describe("tfllv_stage_seconds", "Time of a request's stages.")
        self.metrics.describe("tfllv_batch_size", "Pictures that went through a model together.")
        self.metrics.describe("tfllv_ready", "Whether requests are answered.", lambda: float(self.ready))
        self.metrics.describe("tfllv_waiting_pictures", "Pictures that wait for a model.", self._waiting)

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.registry.ready and not self.stopping

    def _waiting(self) -> float:
        batchers = [model.batcher for model in self.registry.models.values()]
        return float(sum(batcher.waiting for batcher in batchers if batcher))

    def enhance(self, data: bytes, model: Model, engine: Engine, rendering: Rendering, work: Work) -> bytes:
        """Enhances an uploaded picture.

        Args:
          data: of the file.
          model: whose queue is used.
          engine: the version that was in use when the request came.
          rendering: of the result.
          work: the request's.

        Returns:
          The result's file, as `tfllv enhance` would write it.

        Raises:
          RefusalError: if the picture is refused, or there is no time.
        """
        with self.picture(data, engine, work) as picture:
            pixels = self.run(model, engine, picture.pixels, work).image
            assert pixels is not None
            with work.stage("encode"):
                pixels = pictures.blend(picture.pixels, pixels, rendering.strength)
                return pictures.encode(pixels, rendering, alpha=picture.alpha, like=picture.header)

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """Holds one of the places of answers that are sent while they are made.

        Raises:
          RefusalError: 503, if all are taken.
        """
        if not self._streams.acquire(blocking=False):
            raise busy(10)
        try:
            yield
        finally:
            self._streams.release()

    @contextlib.contextmanager
    def memory(self, size: int, work: Work) -> Iterator[None]:
        """Waits until there are `size` bytes for a request's pictures, and keeps them for the length of the block.

        Raises:
          RefusalError: 503, if the request's time is up by then.
        """
        with contextlib.ExitStack() as held:
            with work.stage("wait"):
                held.enter_context(self._memory.hold(size))
            if time.monotonic() > work.deadline:
                raise RefusalError(503, "timeout", "The picture's turn did not come in time.", retry_after=5)
            yield

    @contextlib.contextmanager
    def picture(self, data: bytes, engine: Engine, work: Work) -> Iterator[Picture]:
        """Checks and decodes an upload; its memory is accounted for during the block."""
        with work.stage("check"):
            header = pictures.check_upload(data, self.limits)
        work.facts.update(width=header.width, height=header.height, type=header.format)
        with self.memory(engine.copies * header.pixel_bytes, work):
            with work.stage("decode"):
                picture = pictures.decode(data, self.limits)
            yield picture

    def run(self, model: Model, engine: Engine, pixels: np.ndarray, work: Work) -> Result:
        """Runs the model in its turn on [H, W, 3]; see `Batcher.run`."""
        assert model.batcher is not None
        work.facts.update(model=engine.name, version=engine.version)
        with work.stage("model"):
            return model.batcher.run(engine, pixels, work.deadline)

    def describe(self) -> dict[str, Any]:
        """The answer of `/models`."""
        defaults = {}
        for task in (engines.ENHANCE, engines.SEGMENT, engines.DETECT):
            able = [m.name for m in self.registry.models.values() if m.engine and task in m.engine.tasks]
            defaults[task] = able[0] if able else None
        return {
            "models": [_describe(model) for model in self.registry.models.values()],
            "defaults": defaults,
            "formats": list(pictures.OUTPUT_FORMATS),
            "limits": limits_for_people(self.limits),
        }


def limits_for_people(limits: Limits) -> dict[str, int | float]:
    """The limits that a client can keep to."""
    names = ("max_bytes", "max_request_bytes", "max_pixels", "max_files", "timeout")
    return {name: getattr(limits, name) for name in names}


def _describe(model: Model) -> dict[str, Any]:
    engine = model.engine
    content: dict[str, Any] = {"name": model.name, "state": model.state}
    if engine:
        facts = {key: value for key, value in engine.facts.items() if key != "classes"}
        content |= {"version": engine.version, "tasks": sorted(engine.tasks), **facts}
        if engine.classes:
            content["classes"] = {str(number): name for number, name in engine.classes.items()}
    if model.refused:
        # The reason names paths of the server's disk: it stands in the log, not here.
        content["refused_versions"] = sorted(model.refused)
    return content


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Returns a picture of 16 bits as one of 8."""
    return contracts.to_uint8(contracts.to_float(pixels)) if pixels.dtype == np.uint16 else pixels
