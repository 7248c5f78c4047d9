"""Runs an exported detector over a folder of pictures: drawn pictures, and one JSON file of all that was found.

While the model looks at one picture, the next is read (and enhanced) and the last one drawn and written: three in
memory, and one more waiting on either side. Nothing of TFOD is imported.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from tfllv import contracts
from tfllv.detection import draw, results
from tfllv.detection.detector import Detector, Found, ImageMasks
from tfllv.inputs import files, image_files

DETECTIONS = "detections.json"
_AHEAD = 1


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How pictures are drawn; see `draw.draw_detections`.

    Attributes:
      min_score: detections below are not drawn.
      max_boxes: the most that are drawn in a picture.
    """

    min_score: float = 0.3
    max_boxes: int = 200

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"--min_score must be from 0 to 1. Received: {self.min_score}.")
        if self.max_boxes < 0:
            raise ValueError(f"--max_boxes must be >= 0. Received: {self.max_boxes}.")


_DEFAULT = Drawing()


@dataclasses.dataclass
class Summary:
    """What a run did.

    Attributes:
      images: pictures that were looked at.
      objects: detections in them that reach the score of `Drawing`.
      failed: (path, reason) of each picture that was skipped.
      seconds: wall time.
    """

    images: int = 0
    objects: int = 0
    failed: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 if every picture was done, 1 if any was not."""
        return 1 if self.failed else 0

    def line(self) -> str:
        """The summary in one line."""
        rate = self.images / max(self.seconds, 1e-9)
        return (
            f"{self.objects} object{'s' * (self.objects != 1)} in {self.images} image{'s' * (self.images != 1)} in "
            f"{self.seconds:.1f} s, {rate:.1f} images/s; {len(self.failed)} failed"
        )


def find_pictures(folder: str | os.PathLike[str], save_path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Returns the pictures of a folder and its sub-folders, sorted; none of those written by an earlier run.

    Raises:
      OSError: if the folder is missing or holds no picture.
      ValueError: if pictures would be written over.
    """
    target = pathlib.Path(os.path.realpath(save_path))
    source = pathlib.Path(os.path.realpath(folder))
    if source == target:
        raise ValueError(f"--save_path must not be --images_folder_dir. Received: '{folder}' for both.")
    found = files.find_images(pathlib.Path(folder), name="images_folder_dir", option="--images_folder_dir")
    if target.is_relative_to(source):
        found = [path for path in found if not pathlib.Path(os.path.realpath(path)).is_relative_to(target)]
    if not found:
        raise FileNotFoundError(f"{folder}: --images_folder_dir: only pictures of --save_path are in it.")
    return found


def check_target(save_path: str | os.PathLike[str], *, overwrite: bool) -> pathlib.Path:
    """Returns the output folder as a path, if it may be written.

    Raises:
      ValueError: if it is a file, or holds an earlier run and `overwrite` is not set.
    """
    path = pathlib.Path(save_path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path}: --save_path must be a folder; a file is there.")
    if (path / DETECTIONS).exists() and not overwrite:
        raise ValueError(f"{path / DETECTIONS}: exists; name another --save_path, or pass --overwrite to replace it.")
    return path


def run(
    detector: Detector,
    pictures: Sequence[pathlib.Path],
    folder: str | os.PathLike[str],
    save_path: str | os.PathLike[str],
    names: Mapping[int, str],
    *,
    drawing: Drawing = _DEFAULT,
    save_drawn: bool = True,
    enhance: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: bool | None = None,
) -> Summary:
    """Finds objects in pictures and writes what was found.

    `detections.json` (see `results`) holds all detections of the model, at any score, so that it can be evaluated. A
    class that the label map lacks is named by its number. A picture that cannot be read is named on standard error and
    skipped.

    Args:
      detector: the model.
      pictures: the files, in `folder`.
      folder: what file names are relative to.
      save_path: the output folder; drawn pictures have the names that the pictures have in `folder`.
      names: the label map, id -> name.
      drawing: how pictures are drawn, and from which score an object is counted.
      save_drawn: whether drawn pictures are written.
      enhance: picture -> picture of the same size, [H, W, 3] uint8, before detection; the result is what is drawn on.
      progress: whether a bar is shown; None shows it on a terminal.

    Returns:
      The summary.

    Raises:
      OSError: if the output cannot be written.
    """
    from tqdm import tqdm

    summary, start = Summary(), time.perf_counter()
    work = _Work(pathlib.Path(folder), pathlib.Path(save_path), names, drawing if save_drawn else None, enhance)
    work.target.mkdir(parents=True, exist_ok=True)
    shown = sys.stderr.isatty() if progress is None else progress
    entries: list[results.ImageDetections] = []
    with (
        tqdm(total=len(pictures), unit="image", disable=not shown, dynamic_ncols=True) as bar,
        concurrent.futures.ThreadPoolExecutor(1, "tfllv-read") as readers,
        concurrent.futures.ThreadPoolExecutor(1, "tfllv-draw") as writers,
    ):
        for path, entry in _find(detector, _read_ahead(pictures, readers, work.read), writers, work.write):
            try:
                entries.append(entry.result())
            except Exception as error:  # one bad file, whatever is bad about it, must not cost the others
                summary.failed.append((str(path), _reason(path, error)))
                bar.write(f"{path}: {summary.failed[-1][1]}", file=sys.stderr)
            bar.update()
    summary.images = len(entries)
    summary.objects = sum(int((entry.scores >= drawing.min_score).sum()) for entry in entries)
    used = {int(number) for entry in entries for number in np.unique(entry.classes)}
    label_map = {**{number: f"class {number}" for number in sorted(used)}, **names}
    results.write(work.target / DETECTIONS, results.Detections(label_map, tuple(entries), str(detector.folder)))
    summary.seconds = time.perf_counter() - start
    return summary


def _read_ahead(
    pictures: Sequence[pathlib.Path], pool: concurrent.futures.Executor, read: Callable[[pathlib.Path], np.ndarray]
) -> Iterator[tuple[pathlib.Path, concurrent.futures.Future[np.ndarray]]]:
    """Yields each picture with its pixels to come, having asked for those of the next already."""
    waiting: collections.deque[tuple[pathlib.Path, concurrent.futures.Future[np.ndarray]]] = collections.deque()
    for path in pictures:
        waiting.append((path, pool.submit(read, path)))
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


def _find(
    detector: Detector,
    pictures: Iterable[tuple[pathlib.Path, concurrent.futures.Future[np.ndarray]]],
    pool: concurrent.futures.Executor,
    write: Callable[[pathlib.Path, np.ndarray, Found], results.ImageDetections],
) -> Iterator[tuple[pathlib.Path, concurrent.futures.Future[results.ImageDetections]]]:
    """Yields each picture with its entry to come, in order, while the model is some pictures ahead of the writer."""
    waiting: collections.deque[tuple[pathlib.Path, concurrent.futures.Future[results.ImageDetections]]]
    waiting = collections.deque()
    for path, read in pictures:
        try:
            pixels = read.result()
            entry = pool.submit(write, path, pixels, detector(pixels))
        except Exception as error:
            entry = concurrent.futures.Future()
            entry.set_exception(error)
        waiting.append((path, entry))
        if len(waiting) > _AHEAD:
            yield waiting.popleft()
    yield from waiting


def _reason(path: pathlib.Path, error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        text = "it does not fit into memory"
    elif not isinstance(error, ValueError | OSError):
        text = f"{type(error).__name__}: {text}"
    return text.removeprefix(f"{path}: ")


@dataclasses.dataclass(frozen=True)
class _Work:
    """What is done with a picture before and after the model."""

    folder: pathlib.Path
    target: pathlib.Path
    names: Mapping[int, str]
    drawing: Drawing | None
    enhance: Callable[[np.ndarray], np.ndarray] | None

    def read(self, path: pathlib.Path) -> np.ndarray:
        """Returns the picture upright, [H, W, 3] uint8, enhanced where that was asked for."""
        pixels = image_files.read_image(path).pixels
        pixels = contracts.to_uint8(contracts.to_float(pixels)) if pixels.dtype != np.uint8 else pixels
        return pixels if self.enhance is None else self.enhance(pixels)

    def write(self, path: pathlib.Path, pixels: np.ndarray, found: Found) -> results.ImageDetections:
        """Draws and writes the picture; returns its entry for the JSON file."""
        height, width = pixels.shape[:2]
        name = path.relative_to(self.folder)
        masks = None if found.masks is None else ImageMasks(found, height, width)
        if self.drawing:
            drawn = draw.draw_detections(
                pixels, found.boxes, found.classes, found.scores, self.names, masks=masks, **vars(self.drawing)
            )
            target = self.target / name
            target.parent.mkdir(parents=True, exist_ok=True)
            image_files.write_image(target, drawn)
        runs = None if masks is None else tuple(results.encode_mask(mask) for mask in masks)
        boxes, scores = np.clip(found.boxes, 0, 1), np.clip(found.scores, 0, 1)
        return results.ImageDetections(name.as_posix(), width, height, boxes, found.classes, scores, runs)
