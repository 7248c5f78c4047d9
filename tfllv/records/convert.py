"""From items to published sets of shards: plan, run on this machine or on Beam, report, publish."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import multiprocessing
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from typing import Any

from tfllv.records import files, shards
from tfllv.records.problems import Report
from tfllv.records.shards import Built, ShardTask

RUNNERS = ("local", "beam")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a conversion runs; none of it shapes the bytes of a record, but `num_shards` their distribution.

    Attributes:
      num_shards: of each set; 0: ten, or one an item where there are fewer.
      workers: processes of the local runner; 0: one a processor.
      runner: `local` or `beam`.
      beam_options: words that Beam's `PipelineOptions` takes.
      strict: publish nothing where anything is wrong with the input.
      overwrite: replace a finished set made from other input or options.
    """

    num_shards: int = 0
    workers: int = 0
    runner: str = "local"
    beam_options: tuple[str, ...] = ()
    strict: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("num_shards", "workers"):
            if not 0 <= getattr(self, name) <= 99_999:
                raise ValueError(f"`{name}` must be from 0 to 99999. Received: {name}={getattr(self, name)}.")
        if self.runner not in RUNNERS:
            raise ValueError(f"`runner` must be one of {', '.join(RUNNERS)}. Received: runner='{self.runner}'.")


@dataclasses.dataclass(frozen=True)
class SetPlan:
    """One set to be written.

    Attributes:
      name: of its shards, such as `exdark_train.record`.
      items: all its items, spread over shards by a hash of their keys; or None where `parts` is given.
      parts: the items of each shard, for a source that can only be read in its own order.
    """

    name: str
    items: Sequence[Any] | None = None
    parts: Sequence[Iterable[Any]] = ()


@dataclasses.dataclass
class Outcome:
    """What a conversion did.

    Attributes:
      manifests: set name -> manifest; empty where `strict` held everything back.
      report: all problems, of the annotations and of the pictures.
      rows: set name -> the table lines that the items gave.
      kept: shards that an earlier run had finished.
      complete: an earlier run had finished everything; nothing was done, and `report` is that of the annotations only.
    """

    manifests: dict[str, dict[str, Any]]
    report: Report
    rows: dict[str, list[list[Any]]]
    kept: int = 0
    complete: bool = False


def convert(
    plans: Sequence[SetPlan],
    folder: str | os.PathLike[str],
    build: Callable[[Any], Built],
    *,
    source: dict[str, Any],
    report: Report | None = None,
    options: RunOptions | None = None,
    beside: Callable[[dict[str, list[list[Any]]]], dict[str, bytes]] = lambda rows: {},
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Outcome:
    """Writes sets of shards. Output is the same for any runner and any number of workers.

    A run that was stopped, in whatever way, is taken up where it was: finished shards are kept.

    Args:
      plans: the sets.
      folder: where to; made where absent.
      build: the pure function from an item to its record; a frozen dataclass whose fields are its options.
      source: what the manifest says about where the items come from.
      report: problems found so far.
      options: how to run.
      beside: makes the files that are published with the sets, from the table lines: name -> content.
      say: called with lines of progress.

    Returns:
      What was done. With `strict` and a problem, nothing is published.

    Raises:
      ValueError: if a set is there already from other input or options, or no record could be made.
      OSError: if a file cannot be written.
    """
    options, folder, report = options or RunOptions(), str(folder), report or Report()
    tasks = {plan.name: _tasks(plan, folder, build, options) for plan in plans}
    prints = {name: _digest([task.fingerprint for task in each]) for name, each in tasks.items()}
    found = [_check_target(folder, name, prints[name], options) for name in tasks]
    if all(found) and not (options.strict and any(manifest["problems"] for manifest in found if manifest)):
        say("everything is there already, made from the same input and options")
        manifests = {name: manifest for name, manifest in zip(tasks, found, strict=True) if manifest}
        return Outcome(manifests, report, {}, len(tasks), complete=True)
    todo = [task for each in tasks.values() for task in each]
    kept = (_run_beam if options.runner == "beam" else _run_local)(todo, options, say)
    outcome = Outcome({}, report, {}, kept)
    states = {name: _gather(name, each, outcome) for name, each in tasks.items()}
    if options.strict and report.problems:
        return outcome
    for file, content in beside(outcome.rows).items():
        files.write(files.join(folder, file), [content])
    for name, each_states in states.items():
        about = {"source": source, "options": _describe(build), "fingerprint": prints[name], "problems": report.kinds()}
        outcome.manifests[name] = shards.publish(folder, name, each_states, about)
    for name in states:
        shards.clean_up(folder, name)
    return outcome


def _gather(name: str, tasks: list[ShardTask], outcome: Outcome) -> list[dict[str, Any]]:
    """Returns the states of a set's finished shards, and adds what they tell to the outcome."""
    states = []
    for task in tasks:
        state = shards.kept_state(task.folder, task.name, task.fingerprint, content=False)
        if state is None:
            raise OSError(f"{task.name} was not finished; run again to take the work up.")
        states.append(state)
        outcome.report.problems += shards.problems_of(state)
    outcome.rows[name] = [row for state in states for row in state["rows"]]
    if not sum(state["count"] for state in states):
        outcome.report.show(sys.stderr, most=5)
        raise ValueError(f"no record of the set '{name}' could be made; see the problems above.")
    return states


def _tasks(plan: SetPlan, folder: str, build: Callable[[Any], Built], options: RunOptions) -> list[ShardTask]:
    parts = plan.parts if plan.items is None else spread(plan.items, options.num_shards)
    base = repr(build) + repr(shards.versions())
    partial = shards.partial_folder(folder, plan.name)
    return [
        ShardTask(
            folder=partial,
            name=(name := shards.shard_name(plan.name, index, len(parts))),
            items=part,
            build=build,
            fingerprint=_digest([base, name, *_prints(part)]),
        )
        for index, part in enumerate(parts)
    ]


def spread(items: Sequence[Any], num_shards: int = 0) -> list[tuple[Any, ...]]:
    """Spreads items over shards in the order of a hash of their keys.

    So each shard is a fair sample in mixed order (a folder sorted by class would make every batch one class), and a
    new item moves no other.

    Raises:
      ValueError: if two items have one key, or there are none.
    """
    if not items:
        raise ValueError("no usable item was found in the source.")
    ordered = sorted(items, key=lambda item: hashlib.sha256(item.key.encode("utf-8", "surrogatepass")).digest())
    for before, after in itertools.pairwise(ordered):
        if before.key == after.key:
            raise ValueError(f"every item needs a key of its own. Received: '{after.key}' twice.")
    count = num_shards or min(10, len(items))
    return [tuple(ordered[index::count]) for index in range(count)]


def _prints(part: Iterable[Any]) -> Iterable[str]:
    """What a shard depends on: its items, and size and time of their files."""
    if not isinstance(part, tuple):
        return [repr(part)]
    return (repr(item) + "".join(_stamp(path) for path in item.files()) for item in part)


def _stamp(path: str) -> str:
    if files.is_remote(path):
        return ""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    return digest.hexdigest()


def _describe(build: Any) -> dict[str, Any]:
    return {field.name: getattr(build, field.name) for field in dataclasses.fields(build)}


def _check_target(folder: str, name: str, fingerprint: str, options: RunOptions) -> dict[str, Any] | None:
    """Returns the manifest of a whole set that this very run would make; refuses to replace any other unasked."""
    path = shards.manifest_path(folder, name)
    if files.exists(path):
        manifest = files.read_json(path)
        if isinstance(manifest, dict) and manifest.get("fingerprint") == fingerprint:
            return None if shards.check(folder, manifest) else manifest
        if not options.overwrite:
            raise ValueError(f"{path} is there already, from other input or options; give --overwrite to replace it.")
        return None
    started = files.listing(shards.partial_folder(folder, name))
    if not started and shards.shards_of(folder, name) and not options.overwrite:
        raise ValueError(f"{folder} holds shards of '{name}' without a manifest; give --overwrite to replace them.")
    return None


def _run_local(tasks: list[ShardTask], options: RunOptions, say: Callable[[str], None]) -> int:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(options.workers or processors, len(tasks))
    results: list[str] = []

    def tell(task: ShardTask, what: str) -> None:
        results.append(what)
        say(f"[{len(results)}/{len(tasks)}] {task.name} {what}")

    if workers == 1:
        for task in tasks:
            tell(task, shards.write_shard(task))
        return results.count("kept")
    # Fresh processes, not forks: a fork of a process with threads (TensorFlow, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    pool = futures.ProcessPoolExecutor(workers - 1, mp_context=context, initializer=_follow_parent)
    try:
        waiting = {pool.submit(shards.write_shard, task): task for task in tasks}
        for future, task in reversed(waiting.items()):
            if future.cancel():  # not begun yet: this process is a worker too, and needs no time to start
                tell(task, shards.write_shard(task))
        for done in futures.as_completed([future for future in waiting if not future.cancelled()]):
            tell(waiting[done], done.result())
    except futures.process.BrokenProcessPool:
        raise OSError("a worker was killed, maybe for want of memory; run again with fewer --workers.") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return results.count("kept")


def _follow_parent() -> None:
    """Ends this worker when the process that started it ends, even by kill -9."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_beam(tasks: list[ShardTask], options: RunOptions, say: Callable[[str], None]) -> int:
    """Runs one Beam element a shard. Tasks travel by file: a pipeline has a size limit, annotations have none."""
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise ValueError("`--runner beam` needs Apache Beam: pip install 'tfllv[beam]'.") from None
    elements = []
    for task in tasks:
        data = pickle.dumps(task)
        path = files.join(task.folder, f"{task.name}.task")
        files.write(path, [data])
        elements.append((path, hashlib.sha256(data).hexdigest()))
    say(f"{len(elements)} shards go to Beam")
    try:
        with beam.Pipeline(options=PipelineOptions(list(options.beam_options))) as pipeline:
            _ = pipeline | beam.Create(elements) | beam.Reshuffle() | beam.Map(run_task_file)
    finally:
        for path, _ in elements:
            with contextlib.suppress(OSError):
                files.remove(path)
    return 0


def run_task_file(element: tuple[str, str]) -> str:
    """Reads a task that this run's launcher wrote, and writes its shard; called on Beam's workers.

    Args:
      element: the task file's path, and its sha256, which travels in the pipeline: no other file is unpickled.

    Returns:
      The shard's name.

    Raises:
      ValueError: if the file is not the one that the launcher wrote.
    """
    path, digest = element
    data = files.read(path)
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{path} was changed after it was written; start the conversion again.")
    task: ShardTask = pickle.loads(data)
    shards.write_shard(task)
    return task.name
