"""A zip that is sent while it is made: one picture in memory at a time, names that are safe and unique."""

from __future__ import annotations

import io
import pathlib
import re
import zipfile
from collections.abc import Iterable, Iterator

_UNSAFE = re.compile(r"[^\w.-]+")
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")
_LONGEST = 80


class _Sink(io.RawIOBase):
    """Takes what is written; gives it out once. It cannot seek, so the zip's sizes stand behind each file."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> Iterator[bytes]:
        parts, self._parts = self._parts, []
        yield from parts


def stream(entries: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
    """Yields a zip's bytes.

    Args:
      entries: (name, content), made one at a time. Contents are stored as they are: pictures are compressed already.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            # A fixed date: the same pictures give the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
            yield from sink.take()
    yield from sink.take()


def safe_stem(name: str | None) -> str:
    """Returns what is left of an uploaded file's name when folders, its ending and all unusual characters are gone."""
    plain = (name or "").replace("\\", "/").rpartition("/")[2]
    stem = _UNSAFE.sub("_", pathlib.PurePosixPath(plain).stem).strip("._")[:_LONGEST]
    return f"_{stem}" if _RESERVED.match(stem) else stem or "image"


def unique_names(names: Iterable[str | None], suffix: str) -> list[str]:
    """Returns a safe file name for each, all different, also where letter case does not count."""
    used: set[str] = set()
    result = []
    for name in names:
        stem = safe_stem(name)
        chosen, number = stem, 2
        while chosen.casefold() in used:
            chosen, number = f"{stem}-{number}", number + 1
        used.add(chosen.casefold())
        result.append(chosen + suffix)
    return result
