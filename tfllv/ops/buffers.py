"""Memory for pictures that is used again: the system takes as long to hand out and clear a new one as a recipe runs.

Only for results that come and go by the thousand, as in an input pipeline. TensorFlow takes an array over, without a
copy, that begins at a multiple of 64 bytes, and frees it in another thread, from which the allocator gives it back.
"""

from __future__ import annotations

import collections
import weakref

import numpy as np

_ALIGNMENT = 64
_UNIT = 2**18  # memory comes in multiples of it, so that pictures of nearly the same size share
_LEAST = 2**20  # bytes below which the allocator is as fast
_MOST_SPARE = 256  # units that are kept for later

_spare: dict[int, list[np.ndarray]] = collections.defaultdict(list)


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """Returns an array of float32 that begins at a multiple of 64 bytes; its values are arbitrary.

    Its memory returns to a store of at most 64 MB when nothing refers to the array, or to a view of it, any more.
    """
    size = 4 * int(np.prod(shape))
    units = -(-(size + _ALIGNMENT) // _UNIT) if size >= _LEAST else 0
    try:
        memory = _spare[units].pop()
    except IndexError:
        memory = np.empty(units * _UNIT or size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    # Every view refers to this array, since it is the first over a memory that is not an array's.
    values = np.frombuffer(memory.data[start : start + size], np.float32)
    if units:
        weakref.finalize(values, _take_back, units, memory).atexit = False
    return values.reshape(shape)


def _take_back(units: int, memory: np.ndarray) -> None:
    if units + sum(count * len(blocks) for count, blocks in tuple(_spare.items())) <= _MOST_SPARE:
        _spare[units].append(memory)
