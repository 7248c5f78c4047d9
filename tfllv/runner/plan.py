"""Which files a batch reads and which it writes, settled before any work: order, names, and what is refused.

The output mirrors the input: a file keeps its name and suffix, and what lay in a sub-folder of a PATH lies in the same
sub-folder of the output. Nothing is ever written over an input.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterator, Sequence

from tfllv import contracts

Path = pathlib.Path
_SUFFIXES = contracts.IMAGE_SUFFIXES + contracts.VIDEO_SUFFIXES


@dataclasses.dataclass(frozen=True)
class Task:
    """One input file.

    Attributes:
      source: the file to read.
      target: the file to write.
      problem: why it cannot be done, known without opening it; None where it can.
    """

    source: Path
    target: Path
    problem: str | None = None

    @property
    def video(self) -> bool:
        """Whether the source is a video, by its suffix."""
        return self.source.suffix.lower() in contracts.VIDEO_SUFFIXES


def plan_tasks(
    paths: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    recursive: bool = False,
    overwrite: bool = False,
) -> list[Task]:
    """Lists what is to be done, in the order of `paths`, and of names within a folder.

    Args:
      paths: files, folders and glob patterns. Of a folder, images and videos are taken by suffix and hidden files are
        left out; a file that is named twice is done once.
      output: a folder, or a file name with the suffix of an image or video when there is one input.
      recursive: whether sub-folders are walked too; the output folder among them is not.
      overwrite: whether existing outputs are replaced.

    Returns:
      The tasks. Files that are missing, of unknown suffix, or whose output exists carry their problem.

    Raises:
      ValueError: before anything is read or written, if there is no input at all, an output would replace an input,
        two inputs have one output, or several inputs are to go into one file.
    """
    target = Path(output)
    found: dict[str, Task] = {}
    for path in paths:
        for source, relative in _expand(Path(path), os.path.realpath(target), recursive):
            problem = None
            if not source.exists():
                problem = "there is no such file or folder"
            elif source.suffix.lower() not in _SUFFIXES:
                problem = f"the suffix '{source.suffix}' is not known; expected one of {', '.join(_SUFFIXES)}"
            found.setdefault(os.path.realpath(source), Task(source, target / relative, problem))
    tasks = list(found.values())
    if all(not task.source.exists() for task in tasks):
        names = ", ".join(f"'{os.fspath(path)}'" for path in list(paths)[:5])
        more = "" if recursive else "; -r looks into sub-folders too"
        raise ValueError(f"`PATH` must name images or videos. Received: {names}, where none is found{more}.")
    tasks = _name_single_file(tasks, target)
    _refuse_clashes(tasks)
    return [_check_target(task, overwrite) for task in tasks]


def _expand(path: Path, output: str, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """Yields each file that `path` stands for, with its name below the output folder."""
    if path.is_dir():
        if os.path.realpath(path) == output:
            raise ValueError(f"`--output` must not be the input folder. Received: '{path}' for both.")
        for file in _walk(path, output, recursive):
            yield file, file.relative_to(path)
    elif not path.exists() and glob.has_magic(os.fspath(path)):
        fixed = next(index for index, part in enumerate(path.parts) if glob.has_magic(part))
        base = Path(*path.parts[:fixed])
        matches = sorted(glob.glob(os.fspath(path), recursive=True))
        if not matches:
            yield path, Path(path.name)  # reported as missing, by its pattern
        for match in matches:
            if Path(match).is_file() and not Path(os.path.realpath(match)).is_relative_to(output):
                yield Path(match), Path(match).relative_to(base)
    else:
        yield path, Path(path.name)


def _walk(folder: Path, output: str, recursive: bool) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):  # hidden: thumbnails, the `._` companions of macOS, our own temporary files
            continue
        if entry.is_dir():
            if recursive and not entry.is_symlink() and os.path.realpath(entry) != output:
                yield from _walk(entry, output, recursive)
        elif entry.suffix.lower() in _SUFFIXES:
            yield entry


def _name_single_file(tasks: list[Task], target: Path) -> list[Task]:
    """Where the output is a file name, gives it to the one task there is."""
    suffix = target.suffix.lower()
    if target.is_dir() or suffix not in _SUFFIXES:
        if target.exists() and not target.is_dir():
            raise ValueError(f"`--output` must be a folder, or an image or video file. Received: the file '{target}'.")
        return tasks
    if len(tasks) != 1:
        raise ValueError(f"`--output` must be a folder for {len(tasks)} inputs. Received: the file name '{target}'.")
    if tasks[0].video != (suffix in contracts.VIDEO_SUFFIXES) and not tasks[0].problem:
        raise ValueError(f"`--output` must be of the input's kind. Received: '{tasks[0].source}' to '{target}'.")
    return [dataclasses.replace(tasks[0], target=target)]


def _refuse_clashes(tasks: list[Task]) -> None:
    sources = {os.path.realpath(task.source) for task in tasks}
    targets: dict[str, Task] = {}
    for task in tasks:
        place = os.path.realpath(task.target)
        if place in sources:
            raise ValueError(f"`--output` must not replace an input. Received: '{task.target}', which is one.")
        first = targets.setdefault(place, task)
        if first is not task:
            raise ValueError(
                f"`PATH` must give each input its own output. Received: '{first.source}' and '{task.source}', both to "
                f"'{task.target}'; run them apart, or name the folder above both with -r."
            )


def _check_target(task: Task, overwrite: bool) -> Task:
    if task.problem or not task.target.exists():
        return task
    if task.target.is_dir():
        return dataclasses.replace(task, problem=f"'{task.target}' is a folder")
    if not overwrite:
        return dataclasses.replace(task, problem=f"'{task.target}' exists; --overwrite replaces it")
    return task
