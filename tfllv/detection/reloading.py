"""Runs an exported detector over pictures in a fresh process, to which nothing of the model is known but its files.

`start` starts the process (`python -m tfllv.detection.reloading FOLDER`); the process reads `request.json` and the
pictures from the folder and leaves there what it found in each, which `finish` returns.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllv.detection.detector import Detector, Found

_SECONDS = 1800.0


def start(
    saved_model: str | os.PathLike[str],
    pictures: Sequence[np.ndarray],
    folder: pathlib.Path,
    *,
    side_inputs: Mapping[str, np.ndarray] | None = None,
) -> subprocess.Popen[str]:
    """Starts the process.

    Args:
      saved_model: the SavedModel's folder.
      pictures: [H, W, 3] uint8 each.
      folder: an empty folder.
      side_inputs: further inputs, the same for each picture.

    Returns:
      The process, for `finish`.
    """
    for index, pixels in enumerate(pictures):
        np.save(folder / f"picture-{index}.npy", pixels)
    values: dict[str, Any] = dict(side_inputs or {})
    np.savez(folder / "side_inputs.npz", **values)
    request = {"saved_model": os.path.abspath(saved_model), "pictures": len(pictures)}
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    package = pathlib.Path(__file__).resolve().parent.parent.parent
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "tfllv.detection.reloading", str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL,
        stderr=(folder / "stderr.txt").open("w", encoding="utf-8"),
        text=True,
    )


def finish(process: subprocess.Popen[str], folder: pathlib.Path) -> list[Found]:
    """Waits for the process and returns what it found, one entry a picture.

    Raises:
      ValueError: if the model did not load or run there, with the last line of what the process said.
    """
    try:
        code = process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise ValueError(f"the exported model did not answer within {_SECONDS:.0f} s in a fresh process.") from None
    if code:
        said = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ValueError(f"the exported model does not run in a fresh process: {said[-1] if said else f'exit {code}'}")
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    results = []
    for index in range(request["pictures"]):
        with np.load(folder / f"found-{index}.npz", allow_pickle=False) as arrays:
            results.append(Found(**{name: arrays[name] for name in arrays.files}))
    return results


def main(folder: pathlib.Path) -> None:
    """The process: loads the model and leaves what it finds."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    with np.load(folder / "side_inputs.npz", allow_pickle=False) as saved:
        side_inputs = {name: saved[name] for name in saved.files}
    detector = Detector(request["saved_model"])
    for index in range(request["pictures"]):
        found = detector(np.load(folder / f"picture-{index}.npy"), **side_inputs)
        arrays: dict[str, Any] = {name: value for name, value in vars(found).items() if value is not None}
        np.savez(folder / f"found-{index}.npz", **arrays)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
