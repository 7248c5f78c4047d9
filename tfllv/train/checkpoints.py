"""Checkpoints that survive a kill at any instant: one file each, complete or not there.

A checkpoint is a NumPy `.npz` file: every array of the state by name and, as `meta`, a JSON object. It is written
under a temporary name, flushed to disk, renamed, and the folder flushed. Reading executes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from tfllv import contracts

_NAME = re.compile(r"^step-(\d{9})\.npz$")
TEMPORARY = ".writing-"
_META = "meta"


def write_atomically(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file so that `path` is always the old content or the new, whatever happens meanwhile.

    Args:
      path: the file; its folder is made.
      write: writes the content to an open binary file.

    Raises:
      OSError: naming `path` and the reason; what stood there before is intact.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        contracts.fsync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(f"cannot write '{path}': {error.strerror or error}; what was saved before is intact.") from None


def clean(folder: pathlib.Path) -> None:
    """Removes what a killed writer left behind in a folder."""
    for path in folder.glob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


class Checkpoints:
    """The checkpoints in one folder: the newest `keep`, and `best.npz`."""

    def __init__(self, folder: str | pathlib.Path, *, keep: int = 2):
        self.folder = pathlib.Path(folder)
        self.keep = keep

    def steps(self) -> list[int]:
        """Returns the steps that have a checkpoint, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self.folder.iterdir() if (match := _NAME.match(path.name)))

    def path(self, step: int) -> pathlib.Path:
        """Returns the file of a step."""
        return self.folder / f"step-{step:09d}.npz"

    def save(self, step: int, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], *, best: bool = False) -> None:
        """Writes the checkpoint of `step`, then removes the oldest beyond `keep`.

        Args:
          step: number of steps done.
          arrays: the state, by name.
          meta: what JSON can hold.
          best: also keep it as `best.npz`.

        Raises:
          OSError: if it cannot be written; older checkpoints are intact.
        """
        text = np.frombuffer(json.dumps({**meta, "step": step}).encode(), np.uint8)
        content: dict[str, Any] = {_META: text, **arrays}
        write_atomically(self.path(step), lambda file: np.savez(file, **content))
        if best:
            newest = self.path(step)
            write_atomically(self.folder / "best.npz", lambda file: _copy(newest, file))
        for old in self.steps()[: -self.keep]:
            self.path(old).unlink(missing_ok=True)

    def load_latest(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Returns (arrays, meta) of the newest readable checkpoint, or None; an unreadable one is named and passed."""
        for step in reversed(self.steps()):
            try:
                return load(self.path(step))
            except ValueError as error:
                print(f"tfllv train: {error}; the one before is used.", file=sys.stderr)
        return None


def load(path: str | pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Reads one checkpoint file.

    Raises:
      ValueError: if it is damaged or no checkpoint.
    """
    try:
        with pathlib.Path(path).open("rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(arrays.pop(_META).tobytes())
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"'{path}' is no readable checkpoint ({type(error).__name__})") from None


def _copy(source: pathlib.Path, file: BinaryIO) -> None:
    with source.open("rb") as content:
        while block := content.read(1 << 20):
            file.write(block)
