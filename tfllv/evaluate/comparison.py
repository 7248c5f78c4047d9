"""Compares enhancement methods on pictures: what each makes of them, how good it is, and what it costs.

`compare` gives a `Comparison`: a report with every number, and the pictures for the page. The fields of the report:

- `methods`: a row of the table each; `input` and `reference` are rows without costs. A score is the mean over the
  pictures that have it, `psnr_pictures` and so on say how many; None where there is none. `median_seconds`,
  `throughput_mp_per_s`, `peak_memory_mb`, `loaded_memory_mb` (before the first picture), `parameters`, `macs`.
- `images`: for each picture its `file`, size, `reference`, and `results` by method: `seconds` of every timed run,
  `median_seconds`, the scores; `notes` say why a score is None.
- `skipped` and `failed`: what, and the reason. `protocol`: what each number means. `machine`, `created`, `runs`.
"""

from __future__ import annotations

import dataclasses
import datetime
import io
import os
import pathlib
import platform
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

import tfllv
from tfllv import contracts, enhancers, metrics
from tfllv.evaluate import method_process, network_cost
from tfllv.inputs import image_files

SCORES = ("psnr", "ssim", "niqe")
INPUT, REFERENCE = "input", "reference"
_METRIC_NAMES = {metrics.METRICS[key].name for key in SCORES}


@dataclasses.dataclass
class Comparison:
    """What `compare` found.

    Attributes:
      report: every number and the protocol; the dict written as compare.json.
      pictures: for each picture of the report, WebP bytes by key: `input`, `reference` where there is one, methods.
    """

    report: dict[str, Any]
    pictures: list[dict[str, bytes]]


@dataclasses.dataclass
class _Photo:
    """One picture to compare: its name on the page, its pixels as a file, and its truth where there is one."""

    file: str
    name: str
    pixels: pathlib.Path
    size: tuple[int, int]
    truth: pathlib.Path | None
    reference: str | None


def compare(
    paths: Sequence[str | os.PathLike[str]],
    *,
    methods: str | Sequence[str] = "all",
    reference: str | os.PathLike[str] | None = None,
    weights: Mapping[str, str] | None = None,
    runs: int = 5,
    say: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Runs methods over pictures, times and scores them.

    Args:
      paths: image files, folders (the images directly in them) and globs.
      methods: `all`, or names of `enhancers.METHODS`.
      reference: a folder of truths; a picture's truth has its name, or its name with another ending.
      weights: a weights file by network name; default: those shipped. A network with neither is skipped.
      runs: timed runs of each picture, after one warm-up.
      say: receives a line as each method begins.

    Returns:
      The comparison. A picture or a method that fails is in `report["failed"]`, and the rest is done.

    Raises:
      ValueError: if an option is wrong or no picture can be read.
    """
    names = choose_methods(methods)
    weights = _check_weights(dict(weights or {}), names)
    if runs < 1:
        raise ValueError(f"`runs` must be >= 1. Received: runs={runs}.")
    if reference is not None and not pathlib.Path(reference).is_dir():
        raise ValueError(f"`reference` must be a folder. Received: '{reference}'.")
    with tempfile.TemporaryDirectory(prefix="tfllv-compare-") as scratch:
        failed: list[dict[str, str]] = []
        photos = _read_photos(paths, reference, pathlib.Path(scratch), failed)
        if not photos:
            reasons = "; ".join(f"{row['what']}: {row['reason']}" for row in failed) or "the paths hold no image"
            raise ValueError(f"no picture could be read: {reasons}")
        bench = _Bench(photos, pathlib.Path(scratch), runs, failed)
        for name in names:
            if name not in weights and enhancers.needs_weights(name):
                bench.skipped.append({"method": name, "reason": "no weights are shipped; pass --weights NAME=FILE"})
                continue
            say(f"{name}: {len(photos)} pictures")
            bench.add(name, weights.get(name))
        return Comparison(bench.report(), bench.encoded)


def compare_made(
    paths: Sequence[str | os.PathLike[str]],
    made: str | os.PathLike[str],
    name: str,
    *,
    reference: str | os.PathLike[str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Comparison:
    """Scores pictures that were made before; nothing is run, so there are no costs.

    Args:
      paths: the input pictures, as `compare`.
      made: the folder of the results, found by name as truths are; a picture without one is in `report["failed"]`.
      name: of the method that made them.
      reference: as `compare`.
      about: `kind`, `summary` and `source` of its row.

    Returns:
      The comparison.

    Raises:
      ValueError: if no picture can be read.
    """
    with tempfile.TemporaryDirectory(prefix="tfllv-compare-") as scratch:
        failed: list[dict[str, str]] = []
        photos = _read_photos(paths, reference, pathlib.Path(scratch), failed)
        if not photos:
            raise ValueError("no picture could be read: " + "; ".join(f"{r['what']}: {r['reason']}" for r in failed))
        bench = _Bench(photos, pathlib.Path(scratch), 0, failed)
        for index, photo in enumerate(photos):
            file = _find_truth(pathlib.Path(photo.file), made)
            if file is None:
                failed.append({"what": photo.file, "reason": "there is no result of it"})
                continue
            bench._keep(index, name, read_rgb(file), {})
        bench._add_row(name, dict(about or {"kind": "network", "summary": name}), {})
        report = bench.report()
        report["protocol"] = {key: value for key, value in report["protocol"].items() if key in _METRIC_NAMES}
        return Comparison(report, bench.encoded)


def choose_methods(methods: str | Sequence[str]) -> list[str]:
    """Returns the method names that `all`, a comma-separated text or a sequence stands for, in the given order.

    Raises:
      ValueError: if a name is unknown or none is given.
    """
    if methods == "all":
        return list(enhancers.METHODS)
    words = methods.split(",") if isinstance(methods, str) else list(methods)
    names = list(dict.fromkeys(word.strip() for word in words if word.strip()))
    for name in names:
        if name not in enhancers.METHODS:
            hint = contracts.nearest_name(name, enhancers.METHODS)
            raise ValueError(f"`methods` must name methods, or be `all`. Received: '{name}'; {hint}")
    if not names:
        raise ValueError(f"`methods` must name methods, or be `all`. Received: '{methods}'.")
    return names


def _check_weights(weights: dict[str, str], names: list[str]) -> dict[str, str]:
    networks = [name for name, method in enhancers.METHODS.items() if method.kind == "network"]
    for name, file in weights.items():
        if name not in networks or name not in names:
            hint = contracts.nearest_name(name, set(networks) & set(names) or networks)
            raise ValueError(f"`weights` must be for a network that is compared. Received: '{name}'; {hint}")
        if not pathlib.Path(file).is_file():
            raise ValueError(f"`weights` must be a file. Received: '{file}', which does not exist.")
    return weights


def encode(image: np.ndarray, longest: int) -> bytes:
    """Returns a uint8 picture as WebP, made smaller so that no side is longer than `longest` pixels."""
    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest), Image.Resampling.LANCZOS, reducing_gap=3.0)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=86, method=4)
    return stream.getvalue()


class _Bench:
    """Collects the rows of methods over the same photos, and the encoded pictures."""

    def __init__(self, photos: list[_Photo], scratch: pathlib.Path, runs: int, failed: list[dict[str, str]]):
        self.photos, self.scratch, self.runs, self.failed = photos, scratch, runs, failed
        self.skipped: list[dict[str, str]] = []
        self.rows: list[dict[str, Any]] = []
        self.results: list[dict[str, dict[str, Any]]] = [{} for _ in photos]
        self.notes: list[list[str]] = [[] for _ in photos]
        self.encoded: list[dict[str, bytes]] = [{} for _ in photos]
        # A page of hundreds of pictures must still open on a phone.
        self.longest = next(side for side, most in ((1200, 60), (800, 240), (480, 10**9)) if len(photos) <= most)
        for index, photo in enumerate(photos):
            pixels = np.load(photo.pixels)
            self._keep(index, INPUT, pixels, {})
            if photo.truth is not None:
                self._keep(index, REFERENCE, np.load(photo.truth), {}, compared=False)
        self._add_row(INPUT, {"kind": "", "summary": "the picture as it is"}, {})
        if any(photo.truth is not None for photo in photos):
            self._add_row(REFERENCE, {"kind": "", "summary": "the truth"}, {})

    def _keep(
        self, index: int, name: str, pixels: np.ndarray, timing: dict[str, Any], *, compared: bool = True
    ) -> None:
        truth = self.photos[index].truth if compared else None
        scores, notes = _score(pixels, None if truth is None else np.load(truth))
        self.notes[index] += [note for note in notes if note not in self.notes[index]]
        self.results[index][name] = {**timing, **scores}
        self.encoded[index][name] = encode(pixels, self.longest)

    def add(self, name: str, weights: str | None) -> None:
        """Measures one method and adds its row."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.scratch))
        files = [photo.pixels for photo in self.photos]
        result = method_process.measure(name, files, folder, weights=weights, runs=self.runs)
        if "error" in result:
            self.failed.append({"what": name, "reason": result["error"]})
            return
        for index, timing in enumerate(result["pictures"]):
            if "error" in timing:
                self.failed.append({"what": f"{name} on {self.photos[index].file}", "reason": timing["error"]})
                continue
            output = folder / f"{index}.npy"
            self._keep(index, name, np.load(output), timing)
            output.unlink()
        method = enhancers.METHODS[name]
        about = {"kind": method.kind, "summary": method.summary, "source": method.source}
        if method.kind == "network":
            about["weights"] = pathlib.Path(weights or enhancers.shipped_weights(name) or "").name
        self._add_row(name, about, result)

    def _add_row(self, name: str, about: dict[str, Any], result: dict[str, Any]) -> None:
        done = [(photo, each[name]) for photo, each in zip(self.photos, self.results, strict=True) if name in each]
        timed = [(photo, each["median_seconds"]) for photo, each in done if "median_seconds" in each]
        row: dict[str, Any] = {"name": name, **about, "pictures": len(done)}
        row["median_seconds"] = statistics.median(seconds for _, seconds in timed) if timed else None
        megapixels = sum(photo.size[0] * photo.size[1] for photo, _ in timed) / 1e6
        row["throughput_mp_per_s"] = megapixels / sum(seconds for _, seconds in timed) if timed else None
        for key in ("peak_memory_mb", "loaded_memory_mb", "parameters", "macs"):
            row[key] = result.get(key)
        for key in SCORES:
            values = [each[key] for _, each in done if each.get(key) is not None]
            row[key] = float(np.mean(values)) if values else None
            row[f"{key}_pictures"] = len(values)
        self.rows.append(row)

    def report(self) -> dict[str, Any]:
        """Returns the report; its fields are those the module names."""
        images = [
            {
                "file": photo.file,
                "name": photo.name,
                "width": photo.size[1],
                "height": photo.size[0],
                "reference": photo.reference,
                "results": results,
                "notes": notes,
            }
            for photo, results, notes in zip(self.photos, self.results, self.notes, strict=True)
        ]
        return {
            "tfllv": tfllv.__version__,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": _machine(),
            "runs": self.runs,
            "protocol": protocol(self.runs),
            "page_longest_side": self.longest,
            "methods": self.rows,
            "images": images,
            "skipped": self.skipped,
            "failed": self.failed,
        }


def protocol(runs: int) -> dict[str, str]:
    """Returns what each column of the table means, by column."""
    means = " The row is the mean over the pictures that have a value."
    return {
        "time": method_process.PROTOCOL_TIME.format(runs=runs),
        "memory": method_process.PROTOCOL_MEMORY,
        "throughput": "megapixels of all pictures over the sum of their median times.",
        "parameters, MACs": network_cost.PROTOCOL,
        **{metrics.METRICS[key].name: metrics.METRICS[key].protocol + means for key in SCORES},
    }


def _score(pixels: np.ndarray, truth: np.ndarray | None) -> tuple[dict[str, float | None], list[str]]:
    """Returns the scores of one picture, None where one cannot be computed, and why not."""
    scores: dict[str, float | None] = {}
    notes = []
    for key in SCORES:
        scores[key] = None
        if metrics.METRICS[key].needs_reference and truth is None:
            continue
        try:
            scores[key] = metrics.measure(key, pixels, truth)
        except ValueError as error:
            notes.append(f"{metrics.METRICS[key].name}: {error}")
    return scores, notes


def _machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _read_photos(
    paths: Sequence[str | os.PathLike[str]],
    reference: str | os.PathLike[str] | None,
    scratch: pathlib.Path,
    failed: list[dict[str, str]],
) -> list[_Photo]:
    photos: list[_Photo] = []
    for file in find_files(paths, failed):
        try:
            pixels = read_rgb(file)
        except (ValueError, OSError) as error:
            failed.append({"what": str(file), "reason": _one_line(error, file)})
            continue
        store = scratch / f"photo-{len(photos)}.npy"
        np.save(store, pixels)
        truth_file = _find_truth(file, reference)
        truth = None
        try:
            if truth_file is not None:
                truth = scratch / f"truth-{len(photos)}.npy"
                np.save(truth, _read_truth(truth_file, pixels.shape))
        except (ValueError, OSError) as error:
            failed.append({"what": str(truth_file), "reason": _one_line(error, truth_file)})
            truth = None
        photos.append(_Photo(str(file), file.name, store, pixels.shape[:2], truth, str(truth_file) if truth else None))
    return photos


def _one_line(error: Exception, file: pathlib.Path | None) -> str:
    """Returns an error's text on one line, without the file's name at its head."""
    return " ".join(str(error).split()).removeprefix(f"{file}: ") or type(error).__name__


def find_files(paths: Sequence[str | os.PathLike[str]], failed: list[dict[str, str]]) -> list[pathlib.Path]:
    """Returns the image files that files, folders and globs stand for, each once; what is missing goes to `failed`."""
    found: dict[pathlib.Path, None] = {}
    for given in paths:
        text, path = str(given), pathlib.Path(given)
        if path.is_dir():
            files = [each for each in sorted(path.iterdir()) if each.suffix.lower() in contracts.IMAGE_SUFFIXES]
        elif path.exists():
            files = [path]
        else:
            files = sorted(pathlib.Path(path.anchor or ".").glob(text.removeprefix(path.anchor)))
        if not files:
            failed.append({"what": text, "reason": "there is no such image"})
        found.update(dict.fromkeys(files))
    return list(found)


def read_rgb(path: pathlib.Path) -> np.ndarray:
    """Reads an image file as [H, W, 3] uint8, upright; 16-bit pictures are rounded to 8 bits, alpha is dropped."""
    return contracts.to_uint8(contracts.to_float(image_files.read_image(path).pixels))


def _read_truth(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    truth = read_rgb(path)
    if truth.shape != shape:
        sizes = f"is {truth.shape[1]}x{truth.shape[0]}, the picture is {shape[1]}x{shape[0]}"
        raise ValueError(f"{sizes}; nothing is resized")
    return truth


def _find_truth(file: pathlib.Path, reference: str | os.PathLike[str] | None) -> pathlib.Path | None:
    if reference is None:
        return None
    folder = pathlib.Path(reference)
    candidates = [folder / file.name, *(folder / (file.stem + suffix) for suffix in contracts.IMAGE_SUFFIXES)]
    return next((each for each in candidates if each.is_file()), None)
