"""Compares an exported file with the network it was made from, before anyone sees it.

A converter can report success and write a file without its weights. So every file is loaded by a fresh process that
does not have this package, runs on real photographs, and must agree with the Keras model; else it is not published.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfllv import contracts
from tfllv.export import product
from tfllv.inputs import image_files

SAMPLES = pathlib.Path(__file__).parent.parent / "samples"
FLOAT_TOLERANCE = 1e-5
DECIBELS = {"bfloat16": 50.0, "float16": 50.0, "int8": 35.0, "int8_dynamic": 35.0}
# Of the rows that a detector chooses: in coordinates and scores, both of [0, 1]; and the share of the rows.
SAME_BOX, FOUND_AGAIN = 1e-4, 0.75
# Of a detector's numbers, where its network makes more of rounding: so many times as far from float64 as TensorFlow's
# own float32 is, which must itself be near.
TIMES, NEAR = 4.0, 1e-3
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1, "int8_dynamic": 1}  # bytes of a parameter
_SCRIPT = pathlib.Path(__file__).with_name("fresh_process.py")
_TIMEOUT = 1800
# (sample, top, left, height, width): odd sides, and one picture of each shape, so that no size is baked in.
_CROPS = (("coffee", 120, 200, 75, 98), ("temple", 60, 80, 64, 64), ("cat", 90, 120, 41, 123))


class MismatchError(ValueError):
    """An exported file does not give what its network gives."""


def crops() -> list[np.ndarray]:
    """Pieces of the bundled photographs, [H, W, 3] float32 in [0, 1], of several sizes."""
    found = []
    for name, top, left, height, width in _CROPS:
        pixels = image_files.read_image(SAMPLES / f"{name}.jpg").pixels
        found.append(contracts.to_float(pixels[top : top + height, left : left + width]))
    return found


def photographs() -> list[np.ndarray]:
    """The bundled photographs of which `crops` are pieces, [H, W, 3] uint8, of three sizes: scenes, for detectors."""
    return [contracts.to_uint8(image_files.read_image(SAMPLES / f"{name}.jpg").pixels) for name, *_ in _CROPS]


def run_fresh(calls: list[dict[str, Any]], *, timeout: float = _TIMEOUT) -> list[list[dict[str, np.ndarray]]]:
    """Runs exported files in a process of their own, without this package.

    Args:
      calls: see `fresh_process`; `inputs` are arrays, or lists of encoded pictures.
      timeout: seconds.

    Returns:
      For each call and input, the outputs by name; encoded pictures are decoded, as `NAME-INDEX`.

    Raises:
      MismatchError: if the process fails; the message holds its last line.
    """
    with tempfile.TemporaryDirectory() as work:
        folder = pathlib.Path(work)
        written = []
        for number, call in enumerate(calls):
            inputs = [_write(folder / f"input-{number}-{index}", value) for index, value in enumerate(call["inputs"])]
            written.append({**call, "path": str(pathlib.Path(call["path"]).resolve()), "inputs": inputs})
        (folder / "calls.json").write_text(json.dumps(written))
        command = [sys.executable, "-I", str(_SCRIPT), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=folder)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise MismatchError(f"the exported file does not run in a fresh process: {last[:400]}")
        return [
            [_read(folder / f"result-{number}-{index}.npz") for index in range(len(call["inputs"]))]
            for number, call in enumerate(calls)
        ]


def _write(path: pathlib.Path, value: Any) -> Any:
    if isinstance(value, list):
        for index, data in enumerate(value):
            path.with_name(f"{path.name}-{index}.bin").write_bytes(data)
        return [str(path.with_name(f"{path.name}-{index}.bin")) for index in range(len(value))]
    np.save(path.with_suffix(".npy"), value)
    return str(path.with_suffix(".npy"))


def _read(path: pathlib.Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def compare_all(what: str, pairs: list[tuple[np.ndarray, np.ndarray]], precision: str, *, rounding: float = 0.0) -> str:
    """Compares one output on several pictures with the network's own.

    Args:
      what: names it, for the message.
      pairs: (the exported file's, the network's) of each picture.
      precision: of the export; `float32` must agree within `FLOAT_TOLERANCE`, the others by `DECIBELS`, each picture
        by itself. The peak is 1 or, for values outside [0, 1], the expected range. Class numbers must agree for 999
        pixels of 1,000 in float32, for 99 of 100 else: two classes can be equally likely.
      rounding: what is allowed beside, such as half a level of 255.

    Returns:
      The worst agreement, in words.

    Raises:
      MismatchError: if it is not good enough.
    """
    _check_values(what, pairs)
    exact = precision == "float32"
    if pairs[0][1].dtype.kind in "iu":
        share = min(float(np.mean(found == expected)) for found, expected in pairs)
        _demand(
            share >= (0.999 if exact else 0.99), what, f"{share:.2%} of the classes equal", "99.9 % (float32), 99 %"
        )
        return f"{what} {share:.2%} equal"
    if exact:
        largest = max(_relative(found, expected) for found, expected in pairs)
        _demand(
            largest <= FLOAT_TOLERANCE + rounding, what, f"off by {largest:.3g}", f"{FLOAT_TOLERANCE + rounding:.3g}"
        )
        return f"{what} within {largest:.1e}"
    least = min(decibels(found, expected) for found, expected in pairs)
    _demand(least >= DECIBELS[precision], what, f"PSNR {least:.1f} dB", f"{DECIBELS[precision]:g} dB or more")
    return f"{what} {least:.1f} dB"


def compare_with_exact(
    what: str,
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    own: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    rounding: Sequence[float] | None = None,
) -> str:
    """Compares one output of a converted detector, on several pictures, with float64.

    Args:
      what: names it, for the message.
      found: (the file's, what it should be in float64) of each picture. It must agree within `FLOAT_TOLERANCE` or,
        where the network makes more of rounding, be at most `TIMES` as far off as TensorFlow's own float32.
      own: the same of TensorFlow's float32. If it is not `NEAR`, float64 computes something else.
      rounding: what is allowed in its place, for each picture.

    Returns:
      The worst agreement, in words.

    Raises:
      MismatchError: if it is not good enough.
    """
    _check_values(what, found)
    _check_values(f"{what} in TensorFlow", own)
    theirs = [_relative(*pair) for pair in own]
    _demand(max(theirs) <= NEAR, f"{what} in TensorFlow", f"off by {max(theirs):.3g} from float64", f"{NEAR:g}")
    ours = [_relative(*pair) for pair in found]
    for one, other, allowed in zip(ours, theirs, rounding or [0.0] * len(ours), strict=True):
        limit = max(FLOAT_TOLERANCE, min(NEAR, max(TIMES * other, allowed)))
        _demand(one <= limit, what, f"off by {one:.3g} from float64", f"{limit:.3g}")
    return f"{what} within {max(ours):.1e} of float64 (TensorFlow's float32: {max(theirs):.1e})"


def _check_values(what: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    for found, expected in pairs:
        if found.shape != expected.shape:
            raise MismatchError(f"{what}: shape {found.shape} found; expected {expected.shape}.")
        check_finite(what, found)


def check_finite(what: str, values: np.ndarray) -> None:
    """Checks that no value is NaN or infinite.

    Raises:
      MismatchError: if one is.
    """
    if not np.isfinite(values).all():
        raise MismatchError(f"{what}: {int((~np.isfinite(values)).sum())} values are NaN or infinite.")


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference; logits and the like are not in [0, 1], but float32 has 7 digits wherever the point is."""
    return float(np.abs(found - expected).max()) / max(1.0, float(np.abs(expected).max()))


def compare_boxes(what: str, pairs: Sequence[tuple[Mapping[str, np.ndarray], ...]]) -> str:
    """Compares the rows that a detector chooses: how much of it is found again, within `SAME_BOX` in every number.

    Of two proposals with the same score, and many have a score next to 1, LiteRT's suppression takes another one than
    TensorFlow's does, and of two classes rounding decides; so rows may differ, but few.

    Args:
      what: names it, for the message.
      pairs: (the exported file's, the detector's) of each picture: names -> arrays [N, ...], first the boxes [N, 4].

    Returns:
      How many are found again, of the rows of the side that has more, in words.

    Raises:
      MismatchError: if they are fewer than `FOUND_AGAIN`, or a value is NaN or infinite.
    """
    again = count = 0
    for found, expected in pairs:
        for name, values in found.items():
            check_finite(f"{what} `{name}`", values)
        boxes = next(iter(expected))
        ours, theirs = found[boxes], expected[boxes]
        row, other = np.nonzero(np.abs(theirs[:, None] - ours[None]).max(-1) <= SAME_BOX)
        for name, values in expected.items():
            apart = np.abs(values[row] - found[name][other])
            same = apart.max(tuple(range(1, apart.ndim)), initial=0) <= SAME_BOX
            row, other = row[same], other[same]
        again += min(len(set(row.tolist())), len(set(other.tolist())))
        count += max(len(theirs), len(ours))
    _demand(again >= FOUND_AGAIN * count, what, f"{again} of {count}", f"{FOUND_AGAIN:.0%} of them again")
    return f"{what} {again} of {count} found again"


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    """PSNR in dB; the peak is 1 or, for values outside [0, 1], the expected range. 120 at most."""
    peak = 1.0 if expected.min() >= 0 and expected.max() <= 1 else float(np.ptp(expected))
    error = np.mean((found.astype(np.float64) - expected) ** 2)
    return float(10 * np.log10(peak**2 / max(error, 1e-12 * peak**2)))


def _demand(good: bool, what: str, found: str, expected: str) -> None:
    if not good:
        raise MismatchError(f"{what}: {found} found; expected {expected}. Nothing was published.")


def check_size(what: str, size: int, parameters: int, precision: str) -> None:
    """Checks that a file can hold the parameters: weights that were lost show here first.

    Args:
      what: names it, for the message.
      size: bytes.
      parameters: of the network.
      precision: of the export.

    Raises:
      MismatchError: if it is too small for them, or far too large.
    """
    least, most = 0.9 * _WIDTH[precision] * parameters, 3 * 4 * parameters + (16 << 20)
    found, expected = f"{size:,} bytes", f"{least:,.0f} to {most:,.0f} for {parameters:,} parameters"
    _demand(least <= size <= most, what, found, expected)


def check_file(what: product.Product, data: bytes, *, kind: str, precision: str, signature: str = "") -> str:
    """Compares a single exported file with its network on photographs; returns the agreement in words.

    Args:
      what: the network.
      data: the file's content.
      kind: `litert` or `onnx`.
      precision: of the export.
      signature: of the file, where it has any.

    Raises:
      MismatchError: if it is not good enough.
    """
    check_size(what.name, len(data), what.model.count_params(), precision)
    images = crops()
    with tempfile.TemporaryDirectory() as work:
        path = pathlib.Path(work) / "file"
        path.write_bytes(data)
        call = {"kind": kind, "path": path, "signature": signature, "inputs": [image[None] for image in images]}
        (found,) = run_fresh([call])
    return compare_outputs(what, found, images, precision)


def compare_outputs(
    what: product.Product, found: list[dict[str, np.ndarray]], images: list[np.ndarray], precision: str
) -> str:
    """Compares the outputs, of batches of one, with those of the network; returns the agreement in words.

    Raises:
      MismatchError: if one is not good enough, or a main one is missing.
    """
    expected = [what.reference(image) for image in images]
    least = expected[0].keys() & {contracts.IMAGE, contracts.LOGITS}
    _demand(least <= found[0].keys(), what.name, f"outputs {sorted(found[0])}", f"{sorted(least)} among them")
    agreements = []
    for key in sorted(found[0].keys() & expected[0].keys()):
        pairs = [(one[key][0], truth[key]) for one, truth in zip(found, expected, strict=True)]
        agreements.append(compare_all(f"{what.name} `{key}`", pairs, precision))
    return ", ".join(agreements)


def check_absent(path: pathlib.Path, *, overwrite: bool) -> None:
    """Checks that a file may be written, before the work.

    Raises:
      FileExistsError: if it exists and may not be replaced.
    """
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; give --overwrite to replace it")
