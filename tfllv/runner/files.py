"""Runs an enhancer over files: many at once, in bounded memory, each output whole or absent.

A worker carries one file from its header to its output, so decoding, enhancing and encoding of different files overlap
without queues of pictures between them. What is in memory is bounded twice: by the number of workers, and by a budget
of bytes that a picture's header is charged against before it is decoded. A network enhances one picture at a time,
since it spreads over all cores by itself; classical methods run in every worker. Flushing to disk, milliseconds of
waiting a file, is left to the main thread, which has nothing else to do.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import pathlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tfllv.inputs import image_files
from tfllv.runner import plan, video

# Bytes of pictures in work: one of 24 megapixels (72 MB, four copies at the worst instant), or three of 12.
MEMORY_BUDGET = 512 << 20
_COPIES = 4  # the picture, its enhanced version, and the reordered copies that decoder and encoder make
STAGES = ("header", "decode", "enhance", "encode", "write", "wait", "flush")
_PICTURE_STAGES = ("decode", "enhance", "encode")


@dataclasses.dataclass
class Summary:
    """What a batch did.

    Attributes:
      images: images written.
      videos: videos written.
      frames: frames of these videos.
      failed: (path, reason) of each input that was not done, in order.
      seconds: wall time of the batch.
      busy: stage of `STAGES` -> seconds of images in it, summed over workers; `wait` is for memory and for the network,
        `flush` runs beside them in the main thread.
      picture_seconds: wall time during which at least one image was being decoded, enhanced or encoded.
    """

    images: int = 0
    videos: int = 0
    frames: int = 0
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    busy: dict[str, float] = dataclasses.field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    picture_seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 if every input was done, 1 if any was not."""
        return 1 if self.failed else 0

    def line(self) -> str:
        """The summary in one line."""
        done, rates = [], []
        if self.images or not self.videos:
            done.append(f"{self.images} image{'s' * (self.images != 1)}")
            rates.append(f"{self.images / max(self.seconds, 1e-9):.1f} images/s")
        if self.videos:
            done.append(f"{self.videos} video{'s' * (self.videos != 1)} of {self.frames} frames")
        return f"{' and '.join(done)} in {', '.join([f'{self.seconds:.1f} s', *rates])}; {len(self.failed)} failed"


class MemoryBudget:
    """Lets work in as long as its bytes fit, in order of arrival; one piece that is larger than all goes in alone."""

    def __init__(self, limit: int):
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # who waits for room holds it, so that small pieces do not pass a large one

    @contextlib.contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Waits until `size` bytes fit, and keeps them for the length of the block."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._limit)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()


def enhance_files(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    enhancer: Any,
    *,
    recursive: bool = False,
    overwrite: bool = False,
    tile: int | None = None,
    threads: int | None = None,
    quality: int = 95,
    smoothing: float = 0.9,
    progress: bool | None = None,
) -> Summary:
    """Enhances images, folders of images, and videos.

    Args:
      paths: as `plan.plan_tasks`.
      output: as `plan.plan_tasks`.
      enhancer: an `enhancers.Enhancer`.
      recursive: whether sub-folders are walked too.
      overwrite: whether existing outputs are replaced; where not, each one counts as failed.
      tile: side of a tile in pixels; None chooses, 0 does not tile.
      threads: pictures in work at once; None takes one more than there are cores.
      quality: of JPEG and WebP, 1 to 100.
      smoothing: of video, as `Enhancer.stream`.
      progress: whether a bar is shown; None shows it on a terminal.

    Returns:
      The summary; inputs that could not be done are in `failed`, and named on standard error as they occur.

    Raises:
      ValueError: before any work, if an argument is wrong; as `plan.plan_tasks`.
    """
    tasks = plan.plan_tasks(paths, output, recursive=recursive, overwrite=overwrite)
    return run_tasks(
        tasks, enhancer, tile=tile, threads=threads, quality=quality, smoothing=smoothing, progress=progress
    )


def run_tasks(
    tasks: Sequence[plan.Task],
    enhancer: Any,
    *,
    tile: int | None = None,
    threads: int | None = None,
    quality: int = 95,
    smoothing: float = 0.9,
    progress: bool | None = None,
) -> Summary:
    """Does what `plan.plan_tasks` listed: images side by side, then videos one by one; as `enhance_files`."""
    if threads is not None and threads < 1:
        raise ValueError(f"`threads` must be >= 1. Received: threads={threads}.")
    if not 1 <= quality <= 100:
        raise ValueError(f"`quality` must be from 1 to 100. Received: quality={quality}.")
    from tqdm import tqdm

    summary, start = Summary(), time.perf_counter()
    shown = sys.stderr.isatty() if progress is None else progress
    work = _ImageWork(enhancer, summary, tile=tile, quality=quality)
    images = [task for task in tasks if not task.video]
    pool = concurrent.futures.ThreadPoolExecutor(threads or _cores() + 1, "tfllv-image")
    with tqdm(total=len(tasks), unit="file", disable=not shown, dynamic_ncols=True) as bar, show_steps(enhancer, shown):
        try:
            waiting = [(task, pool.submit(work.enhance, task)) for task in images]
            for task, future in waiting:  # in the order of the tasks, so that what is said is the same each time
                done = _settle(task, lambda task=task, future=future: work.commit(task, future), summary, bar)
                summary.images += done is not None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            work.discard()
        for task in tasks:
            if task.video:
                frames = _settle(task, lambda task=task: work.enhance_video(task, smoothing, shown), summary, bar)
                summary.videos += frames is not None
                summary.frames += frames or 0
    order = {os.fspath(task.source): index for index, task in enumerate(tasks)}
    summary.failed.sort(key=lambda failure: order[failure[0]])
    summary.seconds = time.perf_counter() - start
    return summary


@contextlib.contextmanager
def show_steps(enhancer: Any, shown: bool) -> Iterator[None]:
    """Shows a bar over the steps of each picture, below the one over files, for an enhancer that reports them."""
    if not shown or not hasattr(enhancer, "on_step"):
        yield
        return
    from tqdm import tqdm

    with tqdm(unit="step", position=1, leave=False, dynamic_ncols=True) as bar:

        def show(step: int, steps: int) -> None:
            bar.total, bar.n = steps, step
            bar.refresh()

        enhancer.on_step = show
        try:
            yield
        finally:
            enhancer.on_step = None


def _settle(task: plan.Task, result: Any, summary: Summary, bar: Any) -> int | None:
    """Takes the result of one task: the number of pictures, or None where it failed; says what there is to say."""
    done, said = None, []
    try:
        done, said = result()
    except Exception as error:  # one bad file, whatever is bad about it, must not cost the others
        said = [_reason(task, error)]
        summary.failed.append((os.fspath(task.source), said[0]))
    for text in said:
        bar.write(f"{task.source}: {text}", file=sys.stderr)
    bar.update()
    return done


def _reason(task: plan.Task, error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        text = "it does not fit into memory"
    elif not isinstance(error, ValueError | OSError):
        text = f"{type(error).__name__}: {text}"
    return text.removeprefix(f"{task.source}: ")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _ImageWork:
    """What all workers share: the enhancer, the memory budget and the stage clock."""

    def __init__(self, enhancer: Any, summary: Summary, *, tile: int | None, quality: int):
        self.enhancer, self.summary, self.tile, self.quality = enhancer, summary, tile, quality
        self.budget = MemoryBudget(MEMORY_BUDGET)
        self.clock = threading.Lock()
        self.active, self.since = 0, 0.0  # images being decoded, enhanced or encoded, and since when there is any
        self.staged: dict[plan.Task, pathlib.Path] = {}  # written, not yet committed
        network = enhancer.method.kind == "network"
        self.turn: Any = threading.Lock() if network else contextlib.nullcontext()

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of the block to a stage."""
        counts = name in _PICTURE_STAGES
        start = time.perf_counter()
        with self.clock:
            if counts and not self.active:
                self.since = start
            self.active += counts
        try:
            yield
        finally:
            with self.clock:
                end = time.perf_counter()
                self.summary.busy[name] += end - start
                self.active -= counts
                if counts and not self.active:
                    self.summary.picture_seconds += end - self.since

    def enhance(self, task: plan.Task) -> list[str]:
        """Carries one image from its header to its output under a temporary name; returns what there is to say."""
        if task.problem:
            raise ValueError(task.problem)
        with self.stage("header"):
            header = image_files.read_header(task.source)
        with contextlib.ExitStack() as held:
            with self.stage("wait"):
                held.enter_context(self.budget.hold(_COPIES * header.pixel_bytes))
            with self.stage("decode"):
                picture = image_files.read_image(task.source)
            pixels, alpha = picture.pixels, picture.alpha
            del picture  # so that the input's pixels go as soon as they are enhanced
            with contextlib.ExitStack() as network:
                with self.stage("wait"):
                    network.enter_context(self.turn)
                with self.stage("enhance"):
                    pixels = self.enhancer.tiled(pixels, self.tile)
            with self.stage("encode"):
                data = image_files.encode_image(
                    task.target.suffix, pixels, alpha=alpha, quality=self.quality, like=header
                )
            with self.stage("write"):
                task.target.parent.mkdir(parents=True, exist_ok=True)
                self.staged[task] = image_files.stage_bytes(task.target, data)
        said = ["has several pictures; the first was enhanced"] if header.several else []
        if alpha is not None and task.target.suffix.lower() in (".jpg", ".jpeg", ".bmp"):
            said.append(f"is transparent in places, which {task.target.suffix} cannot hold")
        return said

    def commit(self, task: plan.Task, future: concurrent.futures.Future[list[str]]) -> tuple[int, list[str]]:
        """Waits for an image, flushes it and gives it its name; returns 1 and what there is to say."""
        said = future.result()
        with self.stage("flush"):
            image_files.commit_bytes(self.staged.pop(task), task.target)
        return 1, said

    def discard(self) -> None:
        """Removes what was written but, because the batch was stopped, never committed."""
        for temporary in self.staged.values():
            temporary.unlink(missing_ok=True)
        self.staged.clear()

    def enhance_video(self, task: plan.Task, smoothing: float, shown: bool) -> tuple[int, list[str]]:
        """Enhances one video; returns its frames and what there is to say."""
        if task.problem:
            raise ValueError(task.problem)
        task.target.parent.mkdir(parents=True, exist_ok=True)
        return video.enhance_video(task.source, task.target, self.enhancer, smoothing=smoothing, progress=shown)
