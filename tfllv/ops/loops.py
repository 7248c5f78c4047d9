"""Loops over pictures compiled by Numba: one pass over memory, without Python's lock, on all cores."""

from __future__ import annotations

import concurrent.futures
import functools
import os
from collections.abc import Callable
from typing import Any

import numba

_STRIP = 1 << 16  # pixels of a strip, about: its values stay in a core's cache


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compiles a function when it is first called; the result is kept on disk where a folder can be written to."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's own
        return numba.njit(**options)(function)


def over_strips(shape: tuple[int, ...], work: Callable[[int, slice], None], *, multiple: int = 1) -> None:
    """Calls a function on strips of whole rows of the pictures of a batch, on all cores.

    Args:
      shape: [B, H, W, ...].
      work: (index of the picture, its rows) -> nothing; called in any order.
      multiple: a strip starts at a multiple of this.
    """
    batch, height, width = shape[:3]
    rows = -(-max(1, _STRIP // width) // multiple) * multiple
    parts = [(index, slice(top, min(top + rows, height))) for index in range(batch) for top in range(0, height, rows)]
    if len(parts) == 1:
        work(*parts[0])
    else:
        list(_threads().map(lambda part: work(*part), parts))


@functools.cache
def _threads() -> concurrent.futures.ThreadPoolExecutor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return concurrent.futures.ThreadPoolExecutor(cores, thread_name_prefix="tfllv-strips")


if hasattr(os, "register_at_fork"):  # a child has none of its parent's threads
    os.register_at_fork(after_in_child=_threads.cache_clear)
