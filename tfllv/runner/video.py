"""Runs an enhancer over the frames of a video, in order, so that what it estimates can be smoothed over time.

Reading, enhancing and writing overlap in three threads. Frames come upright (the rotation of a phone's video is
applied), their number and rate are kept, audio is not. MPEG-4 part 2 in .mp4, .mov, .m4v, .mkv and .avi, VP9 in .webm:
the encoders that every OpenCV wheel has.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import os
import pathlib
import secrets
from collections.abc import Generator, Iterator
from typing import Any

import cv2
import numpy as np

from tfllv import contracts

_AHEAD = 3  # frames kept between two stages
_SHORTFALL = 0.05  # of the announced frames may be missing; some containers only estimate their number


def enhance_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    enhancer: Any,
    *,
    smoothing: float = 0.9,
    progress: bool = False,
) -> tuple[int, list[str]]:
    """Enhances a video file, whole or not at all.

    Args:
      source: the video.
      target: the file to write; its folder exists. Its suffix chooses the container.
      enhancer: an `enhancers.Enhancer`.
      smoothing: weight of the past, as `Enhancer.stream`.
      progress: whether a bar of frames is shown.

    Returns:
      The number of frames, and what the user should know about the output.

    Raises:
      ValueError: if the suffix is not that of a video, or the source has no frame that can be read or ends early.
      OSError: if the target cannot be written; nothing is left then.
    """
    source, target = pathlib.Path(source), pathlib.Path(target)
    if target.suffix.lower() not in contracts.VIDEO_SUFFIXES:
        raise ValueError(f"`target` must end in {', '.join(contracts.VIDEO_SUFFIXES)}. Received: '{target.suffix}'.")
    with open(source, "rb"):  # a missing or unreadable file says so itself; OpenCV would only say "not opened"
        capture = cv2.VideoCapture(os.fspath(source), cv2.CAP_FFMPEG)
    temporary = target.parent / f".tfllv-{secrets.token_hex(8)}{target.suffix.lower()}"
    try:
        frames, said = _convert(source, capture, temporary, enhancer.stream(smoothing=smoothing), progress)
        _check_written(temporary, target)
        os.replace(temporary, target)
    finally:
        capture.release()
        temporary.unlink(missing_ok=True)
    return frames, said


def _convert(
    source: pathlib.Path, capture: Any, temporary: pathlib.Path, step: Any, shown: bool
) -> tuple[int, list[str]]:
    from tqdm import tqdm

    announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = capture.get(cv2.CAP_PROP_FPS)
    said = ["audio, if it has any, is not kept"]
    if not 0 < rate < 1000:
        said.append(f"its frame rate is not readable ({rate:g}); 25 is taken")
        rate = 25.0
    writer, count, size = None, 0, (0, 0)
    read = _ahead(_read_frames(capture))
    enhanced = _ahead(map(step, read))
    bar = tqdm(total=max(announced, 0), unit="frame", desc=source.name, leave=False, disable=not shown)
    # Closed in this order, whatever happens: no thread may read on from a video that its caller has released.
    with contextlib.closing(read), contextlib.closing(enhanced), bar:
        try:
            for frame in enhanced:
                if writer is None:
                    size = (frame.shape[1], frame.shape[0])
                    writer = _open_writer(temporary, rate, size)
                writer.write(_even(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)))
                count += 1
                bar.update()
        finally:
            if writer is not None:
                writer.release()
    if writer is None:
        raise ValueError(f"{source}: no frame of a video found; expected one of {', '.join(contracts.VIDEO_SUFFIXES)}.")
    if count < announced * (1 - _SHORTFALL) - 1:
        raise ValueError(f"{source}: {count} readable frames found; expected {announced}: it is cut short or damaged.")
    if size[0] % 2 or size[1] % 2:
        said.append(f"{size[0]}x{size[1]} became even by repeating the last column or row, as its encoder demands")
    return count, said


def _ahead(items: Iterator[Any]) -> Generator[Any, None, None]:
    """Draws `items` in a thread of its own, a few ahead of whoever takes them; closing it waits for that thread."""
    end = object()
    with concurrent.futures.ThreadPoolExecutor(1, "tfllv-video") as pool:
        pending = collections.deque(pool.submit(next, items, end) for _ in range(_AHEAD))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, items, end))
            yield item


def _read_frames(capture: Any) -> Iterator[np.ndarray]:
    while True:
        there, frame = capture.read()
        if not there:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def _even(frame: np.ndarray) -> np.ndarray:
    """Repeats the last row and column where their number is odd; the encoder would cut them off."""
    bottom, right = frame.shape[0] % 2, frame.shape[1] % 2
    return cv2.copyMakeBorder(frame, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else frame


def _open_writer(path: pathlib.Path, rate: float, size: tuple[int, int]) -> Any:
    path.touch(exist_ok=False)  # a folder that cannot be written says so itself; OpenCV would only say "not opened"
    code = cv2.VideoWriter.fourcc(*("VP90" if path.suffix == ".webm" else "mp4v"))
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    writer = cv2.VideoWriter(os.fspath(path), cv2.CAP_FFMPEG, code, rate, even)
    if not writer.isOpened():
        raise OSError(f"a video of {even[0]}x{even[1]} at {rate:g} frames/s cannot be written as {path.suffix}.")
    return writer


def _check_written(temporary: pathlib.Path, target: pathlib.Path) -> None:
    """OpenCV does not report a full disk: what cannot be opened again was not written."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    check = cv2.VideoCapture(os.fspath(temporary), cv2.CAP_FFMPEG)
    readable = check.isOpened() and check.read()[0]
    check.release()
    if not readable:
        raise OSError(f"{target}: the video could not be written; is the disk full?")
