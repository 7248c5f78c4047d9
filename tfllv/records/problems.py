"""What is wrong with the input: every problem in one pass, each as `file:line: field: what is wrong`."""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

_SHORT = reprlib.Repr()  # does not walk all of a huge or deep value
_LARGEST = 1e9  # pixels; beyond it a coordinate is nonsense and float32 arithmetic with it too


@dataclasses.dataclass(frozen=True)
class Where:
    """A place in the input.

    Attributes:
      file: as the user named it, or the picture's file.
      line: from 1; 0 where the file has no lines (a picture, a folder).
    """

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
      where: the place.
      field: the field of it: `bbox`, `class`, `annotations[7].area`, `image`.
      kind: a few words that are the same for all problems of a kind, for the summary.
      detail: what was found and what was done.
    """

    where: Where
    field: str
    kind: str
    detail: str

    def __str__(self) -> str:
        return " ".join(f"{self.where}: {self.field}: {self.kind}: {self.detail}".split())


class Report:
    """Collects problems."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self.problems: list[Problem] = list(problems)

    def __len__(self) -> int:
        return len(self.problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)

    def add(self, where: Where, field: str, kind: str, detail: str) -> None:
        """Adds one problem."""
        self.problems.append(Problem(where, field, kind, detail))

    def kinds(self) -> dict[str, int]:
        """Returns kind -> count, the commonest first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def show(self, stream: TextIO, *, most: int = 20) -> None:
        """Prints the first problems of each kind, and the summary."""
        seen: Counter[str] = Counter()
        for problem in self.problems:
            seen[problem.kind] += 1
            if seen[problem.kind] <= most:
                print(problem, file=stream)
            elif seen[problem.kind] == most + 1:
                print(f"... more of '{problem.kind}' are in the list of problems", file=stream)
        for kind, count in self.kinds().items():
            print(f"{count:7} x {kind}", file=stream)


def number(value: Any) -> float | None:
    """Returns a JSON or text value as a finite float of sensible size, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) and abs(result) <= _LARGEST else None


def whole_number(value: Any) -> int | None:
    """Returns a JSON or text value as an int, or None; 3.0 counts as 3, True as none."""
    result = number(value)
    return int(result) if result is not None and result == int(result) else None


def show_value(value: Any) -> str:
    """Returns a value in 60 printable characters at most, for a message."""
    text = _SHORT.repr(value).encode("ascii", "backslashreplace").decode()
    return text if len(text) <= 60 else text[:57] + "..."
