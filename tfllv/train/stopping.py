"""Stopping a run between two steps: Ctrl-C and SIGTERM are noted, not obeyed at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any


class StopRequest:
    """Whether a run was asked to stop; true once it was.

    Args:
      at_once: whether the first signal stops at once, as with several machines, which cannot agree on a step.
    """

    def __init__(self, *, at_once: bool = False):
        self._at_once, self._asked = at_once, False

    def __bool__(self) -> bool:
        return self._asked

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Notes Ctrl-C and SIGTERM; a second one raises KeyboardInterrupt. Outside the main thread nothing changes."""

        def note(number: int, frame: Any) -> None:
            if self._asked or self._at_once:
                raise KeyboardInterrupt
            self._asked = True

        try:
            before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: signals stay as they are
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
