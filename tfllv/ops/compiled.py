"""Loops over pictures compiled by Numba: one pass over memory, without Python's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compiles a function when it is first called; the result is kept on disk where a folder can be written to."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor the user's own
        return numba.njit(**options)(function)
