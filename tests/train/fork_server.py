"""Starts runs by forking a process that has imported everything already: a run takes about a second, not ten.

Reads lines of JSON. {"script": PATH, "words": [...], "environment": {...}, "log": PATH} starts `main(words)` of a
script and answers with the child's id; {"wait": ID} answers with its exit code, which is negative after a signal. This
process makes no TensorFlow runtime, whose threads a fork would lose, and refuses to fork once it has threads.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pathlib
import sys
import traceback

# The libraries' own threads would make a fork unsafe; the children's TensorFlow has its own.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def load(path):
    """Returns a script as a module."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(main, order):
    """Forks; the child runs `main` with its output in a file and never returns. Returns its id."""
    threads = [path.joinpath("comm").read_text().strip() for path in pathlib.Path("/proc/self/task").iterdir()]
    others = [name for name in threads[1:] if not name.startswith("jemalloc")]  # the allocator's own outlives forks
    if others:
        raise RuntimeError(f"the fork server must have no threads. Received: {', '.join(others)}.")
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.environ |= order["environment"]
        code = main(order["words"]) or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def serve():
    """Answers until the input ends."""
    scripts = {}
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        else:
            path = order["script"]
            scripts[path] = scripts.get(path) or load(path)
            answer = start(scripts[path].main, order)
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
