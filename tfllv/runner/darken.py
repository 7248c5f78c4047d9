"""Darkens image files: many at once, each by a seed of its own, with a manifest that says how each was made."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import tfllv
from tfllv import contracts
from tfllv.inputs import image_files
from tfllv.ops import darken
from tfllv.runner import files, plan

MANIFEST = "darken.json"
_COPIES = 24  # bytes in work for each byte of a picture: several float32 versions


def file_seed(seed: int, name: str) -> tuple[int, int]:
    """Returns the seed of the file `name` (its path below the output folder, with slashes).

    It depends on nothing else, so that order, threads and other files change no picture.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    first, second = np.frombuffer(digest[:16], "<i8")
    return int(first), int(second)


def darken_files(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    recipe: str,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    recursive: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    quality: int = 95,
) -> files.Summary:
    """Darkens images and folders of images.

    A file is what `ops.darken.darken` makes of its pixels with `file_seed(seed, name)`; pictures of 16 bits stay so.
    Names, recipe, options and seeds are added to `darken.json` in the output folder, or to `OUT.json` beside the file
    where `output` is a file name.

    Args:
      paths: as `plan.plan_tasks`; videos are not darkened.
      output: as `plan.plan_tasks`.
      recipe: a name of `ops.darken.RECIPES`.
      seed: a whole number.
      options: of the recipe.
      recursive: whether sub-folders are walked too.
      overwrite: whether existing outputs are replaced; where not, each one counts as failed.
      threads: pictures in work at once; None takes as many as there are cores.
      quality: of JPEG and WebP, 1 to 100.

    Returns:
      The summary; inputs that could not be done are in `failed`, and named on standard error.

    Raises:
      ValueError: before any work, if an argument is wrong or an existing manifest cannot be read.
    """
    settings = darken.check_options(recipe, options or {})
    if threads is not None and threads < 1:
        raise ValueError(f"`threads` must be >= 1. Received: threads={threads}.")
    if not 1 <= quality <= 100:
        raise ValueError(f"`quality` must be from 1 to 100. Received: quality={quality}.")
    tasks = plan.plan_tasks(paths, output, recursive=recursive, overwrite=overwrite)
    manifest = _Manifest(pathlib.Path(output), tasks)
    summary, start = files.Summary(), time.perf_counter()
    budget = files.MemoryBudget(files.MEMORY_BUDGET)
    pool = concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count() or 1, "tfllv-darken")
    done: dict[str, tuple[int, int]] = {}

    def work(task: plan.Task) -> tuple[int, int]:
        pair = file_seed(seed, manifest.name(task))
        _darken_file(task, recipe, pair, options or {}, budget, quality)
        return pair

    try:
        waiting = [(task, pool.submit(work, task)) for task in tasks]
        for task, future in waiting:  # in the order of the tasks, so that what is said is the same each time
            try:
                done[manifest.name(task)] = future.result()
            except Exception as error:  # one bad file, whatever is bad about it, must not cost the others
                reason = "it does not fit into memory" if isinstance(error, MemoryError) else str(error)
                reason = " ".join(reason.split()).removeprefix(f"{task.source}: ")
                summary.failed.append((os.fspath(task.source), reason))
                print(f"{task.source}: {reason}", file=sys.stderr)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if done:
            manifest.add({"recipe": recipe, "options": settings, "seed": seed}, done)
    summary.images, summary.seconds = len(done), time.perf_counter() - start
    return summary


def _darken_file(
    task: plan.Task,
    recipe: str,
    seed: tuple[int, int],
    options: Mapping[str, Any],
    budget: files.MemoryBudget,
    quality: int,
) -> None:
    if task.problem:
        raise ValueError(task.problem)
    if task.video:
        raise ValueError("is a video; expected an image")
    header = image_files.read_header(task.source)
    with budget.hold(_COPIES * header.pixel_bytes):
        picture = image_files.read_image(task.source)
        pixels = picture.pixels if picture.pixels.dtype == np.uint8 else contracts.to_float(picture.pixels)
        dark = darken.darken(pixels, recipe, seed, **options)
        dark = contracts.to_type(dark, picture.pixels.dtype)
        task.target.parent.mkdir(parents=True, exist_ok=True)
        image_files.write_image(task.target, dark, alpha=picture.alpha, quality=quality, like=header)


class _Manifest:
    """The file that says how every dark picture was made: runs of one recipe, options and seed, with their files."""

    def __init__(self, output: pathlib.Path, tasks: Sequence[plan.Task]):
        """Reads what earlier commands left, so that a broken manifest shows before any work."""
        single = len(tasks) == 1 and tasks[0].target == output
        self._folder = None if single else output
        self.path = output.with_name(f"{output.name}.json") if single else output / MANIFEST
        self._runs: list[dict[str, Any]] = []
        if self.path.exists():
            try:
                self._runs = [
                    {**run, "files": dict(run["files"])} for run in json.loads(self.path.read_bytes())["runs"]
                ]
            except (ValueError, KeyError, TypeError):
                raise ValueError(f"{self.path}: not a manifest of this command; move it away.") from None

    def name(self, task: plan.Task) -> str:
        """Returns the name that stands for a file: its path below the output folder, or its own name."""
        if self._folder is None:
            return task.source.name
        return task.target.relative_to(self._folder).as_posix()

    def add(self, settings: dict[str, Any], done: Mapping[str, tuple[int, int]]) -> None:
        """Writes the manifest, whole or not at all, with the files of this run in it."""
        settings = json.loads(json.dumps({**settings, "tfllv": tfllv.__version__}))
        for run in self._runs:
            run["files"] = {name: pair for name, pair in run["files"].items() if name not in done}
        same = next((run for run in self._runs if {**run, "files": None} == {**settings, "files": None}), None)
        if same is None:
            same = {**settings, "files": {}}
            self._runs.append(same)
        same["files"] = dict(sorted({**same["files"], **done}.items()))
        text = json.dumps({"runs": [run for run in self._runs if run["files"]]}, indent=1)
        # Pairs of numbers on one line; no name holds a line break, since JSON writes that as two letters.
        text = re.sub(r"\[\n([^][{}]*)\n *\]", lambda match: f"[{' '.join(match[1].split())}]", text)
        image_files.write_bytes(self.path, (text + "\n").encode())
