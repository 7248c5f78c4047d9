"""Times one method over pictures in a fresh process, so that its peak memory is its own.

`measure` starts the process (`python -m tfllv.evaluate.method_process FOLDER`); the process reads `request.json` and
the pictures from the folder and leaves the results, `result.json` and one array a picture, in it.
"""

from __future__ import annotations

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

PROTOCOL_TIME = (
    "uint8 pixels in memory to uint8 pixels in memory, no file. Each picture: one warm-up, then {runs} timed runs and "
    "their median. The row shows the median over the pictures; methods run one after another."
)
PROTOCOL_MEMORY = (
    "the highest resident memory (RSS high-water mark) of a fresh process that runs only this method over all "
    "pictures, Python and libraries included; in brackets the part added after the method was loaded."
)


def resident_megabytes() -> tuple[float, float]:
    """Returns the resident memory of this process now and at its highest, in MB of 10^6 bytes.

    Linux's getrusage reports the parent's peak for a process started by fork and exec, so /proc is read where it is.
    """
    try:
        lines = pathlib.Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        now, peak = (int(fields[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))
    except (OSError, KeyError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        now = peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return now, peak


def measure(
    method: str, pictures: list[pathlib.Path], folder: pathlib.Path, *, weights: str | None = None, runs: int = 5
) -> dict[str, Any]:
    """Runs `method` over pictures in a fresh process.

    Args:
      method: a key of `enhancers.METHODS`.
      pictures: .npy files, each [H, W, 3] uint8.
      folder: an empty folder; the enhanced picture `k` is left there as `k.npy`.
      weights: a weights file for a network; default: those shipped.
      runs: timed runs of each picture after one warm-up, >= 1.

    Returns:
      A dict with `pictures` (for each: `seconds`, a list, or `error`), `peak_memory_mb`, `loaded_memory_mb`, and for a
      network `parameters` and `macs`; or with `error` alone where the method could not be loaded or its process ended.
    """
    request = {"method": method, "pictures": [str(p) for p in pictures], "weights": weights, "runs": runs}
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    command = [sys.executable, "-m", "tfllv.evaluate.method_process", str(folder)]
    # The package may run from a checkout that is not installed; the child must find the same one.
    root = str(pathlib.Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    result = folder / "result.json"
    if done.returncode == 0 and result.exists():
        return json.loads(result.read_text(encoding="utf-8"))
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
    return {"error": f"its process ended with {how}: {last}"}


def _run(folder: pathlib.Path) -> dict[str, Any]:
    """Does in the fresh process what `measure` asked for."""
    from tfllv import enhancers

    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    options = {"weights": request["weights"]} if request["weights"] else {}
    try:
        enhancer = enhancers.get(request["method"], **options)
    except (ValueError, OSError, ImportError) as error:
        return {"error": " ".join(str(error).split())}
    loaded, _ = resident_megabytes()
    rows = [
        _time_picture(enhancer, pathlib.Path(path), folder / f"{index}.npy", request["runs"])
        for index, path in enumerate(request["pictures"])
    ]
    result = {"pictures": rows, "loaded_memory_mb": loaded, "peak_memory_mb": resident_megabytes()[1]}
    network = getattr(enhancer, "model", None)
    if network is not None:  # after the memory was read, because tracing takes some
        from tfllv.evaluate import network_cost

        result.update(network_cost.network_cost(network))
    return result


def _time_picture(enhancer: Any, source: pathlib.Path, target: pathlib.Path, runs: int) -> dict[str, Any]:
    """Enhances one picture 1 + `runs` times, saves the result, and returns the times; any failure is its own row."""
    image = np.load(source)
    seconds = []
    try:
        output = enhancer.tiled(image)
        for _ in range(runs):
            begin = time.perf_counter()
            output = enhancer.tiled(image)
            seconds.append(time.perf_counter() - begin)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    np.save(target, output)
    return {"seconds": seconds, "median_seconds": statistics.median(seconds)}


if __name__ == "__main__":
    place = pathlib.Path(sys.argv[1])
    (place / "result.json").write_text(json.dumps(_run(place)), encoding="utf-8")
