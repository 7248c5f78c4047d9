"""The progress of a training run: its pace, and the line that says it."""

from __future__ import annotations

import datetime
import math
import time

TOTAL = "Loss/total_loss"


class Pace:
    """How fast the steps go, without the first, which builds the graph."""

    def __init__(self) -> None:
        self.steps = 0.0
        self._seconds = 0.0
        self._started = False
        self._last_line = -math.inf

    def add(self, steps: int, seconds: float) -> None:
        """Counts steps that took so long."""
        if self._started:
            # A moving average over about the last hundred seconds, so that a change of pace shows.
            keep = min(1.0, 100.0 / max(self._seconds, 1e-9))
            self.steps, self._seconds = self.steps * keep + steps, self._seconds * keep + seconds
        self._started = True

    def speed(self) -> float:
        """Steps a second; 0 before the second step."""
        return self.steps / self._seconds if self._seconds else 0.0

    def line_is_due(self, seconds: float, is_last: bool) -> bool:
        """Whether so many seconds have gone by since the last line."""
        now = time.monotonic()
        if now - self._last_line < seconds and not is_last:
            return False
        self._last_line = now
        return True


def line(step: int, num_steps: int, means: dict[str, float], speed: float, batch_size: int) -> str:
    """One line: step, losses, learning rate, steps and images a second, time left.

    Args:
      step: done so far.
      num_steps: in all.
      means: losses by TFOD's names, and `learning_rate`.
      speed: steps a second; 0 where it is not known yet.
      batch_size: over all replicas.
    """
    parts = " ".join(
        f"{name.removeprefix('Loss/').removesuffix('_loss')} {value:.4g}"
        for name, value in means.items()
        if name.startswith("Loss/") and name != TOTAL
    )
    text = f"step {step}/{num_steps}  loss {means[TOTAL]:.4f} ({parts})  lr {means['learning_rate']:.3g}"
    if not speed:
        return text
    left = datetime.timedelta(seconds=round((num_steps - step) / speed))
    return f"{text}  {speed:.3g} steps/s  {speed * batch_size:.3g} images/s  {left} left"
