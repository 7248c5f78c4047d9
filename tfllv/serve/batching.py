"""Brings the pictures of different requests together: those of equal size that wait at the same time go as one batch.

Nothing waits for company: a picture goes as soon as a worker is free, with whatever else of its size is there by then.
So a lone request is as fast as without batching, and batches form by themselves under load.
"""

from __future__ import annotations

import collections
import concurrent.futures
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tfllv.serve import refusals
from tfllv.serve.engine import Engine, Result
from tfllv.serve.limits import Limits
from tfllv.serve.refusals import RefusalError


class _Item:
    """One picture, or one call, that waits for its turn."""

    def __init__(self, key: tuple[Any, ...] | None, work: Any, engine: Engine, deadline: float):
        self.key, self.work, self.engine, self.deadline = key, work, engine, deadline
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()


class Batcher:
    """The queue of one model and the threads that serve it.

    Args:
      name: for the threads' names.
      workers: how many.
      limits: `max_queue`, `max_files`, `max_batch` and `max_batch_pixels` are used.
      observe: called with the size of each batch.
    """

    def __init__(self, name: str, workers: int, limits: Limits, observe: Callable[[int], None] = lambda size: None):
        self._limits, self._observe = limits, observe
        self._items: collections.deque[_Item] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"tfllv-{name}-{number}", daemon=True) for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Pictures that wait."""
        return len(self._items)

    def run(self, engine: Engine, pixels: np.ndarray, deadline: float) -> Result:
        """Runs an engine on one picture, [H, W, 3], alone or with others; waits for the result.

        Args:
          engine: whose `run` is called.
          pixels: uint8 or uint16.
          deadline: on `time.monotonic`'s clock.

        Raises:
          RefusalError: 503, if too many wait or the deadline passes.
        """
        return self._put(_Item((id(engine), pixels.shape, pixels.dtype), pixels, engine, deadline))

    def call(self, engine: Engine, function: Callable[[], Any], deadline: float) -> Any:
        """Calls a function in the engine's turn; as `run`."""
        return self._put(_Item(None, function, engine, deadline))

    def close(self) -> None:
        """Lets the workers end once nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _put(self, item: _Item) -> Any:
        with self._changed:
            # As many as the server lets in at once may wait here, and never more.
            if len(self._items) >= self._limits.max_queue + self._limits.workers:
                raise refusals.busy(1)
            self._items.append(item)
            self._changed.notify()
        try:
            return item.future.result(max(0.0, item.deadline - time.monotonic()))
        except concurrent.futures.TimeoutError:
            item.future.cancel()
            raise RefusalError(
                503, "timeout", "The picture could not be done in time; try again later.", retry_after=5
            ) from None

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closed)
                if not self._items:
                    return
                items = self._take()
            items = [item for item in items if item.future.set_running_or_notify_cancel()]
            if items:
                self._observe(len(items))
                self._run(items)
            items = []  # nothing of a request is kept while waiting for the next

    def _take(self) -> list[_Item]:
        """Takes the first item and those behind it that fit into one batch with it, in order."""
        first = self._items.popleft()
        if first.key is None:
            return [first]
        height, width = first.work.shape[:2]
        room = min(self._limits.max_batch, first.engine.max_batch, self._limits.max_batch_pixels // (height * width))
        taken, left = [first], list[_Item]()
        while self._items and len(taken) < room:
            item = self._items.popleft()
            (taken if item.key == first.key else left).append(item)
        self._items.extendleft(reversed(left))
        return taken

    def _run(self, items: list[_Item]) -> None:
        first = items[0]
        try:
            alone = first.key is None
            results = [first.work()] if alone else first.engine.run([item.work for item in items])
        except Exception as error:
            if len(items) == 1:
                first.future.set_exception(error)
            else:  # one picture must not cost the others that happened to come along
                for item in items:
                    self._run([item])
            return
        for item, result in zip(items, results, strict=True):
            item.future.set_result(result)
