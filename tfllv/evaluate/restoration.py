"""Scores restored pictures against their truths: every protocol side by side, with intervals.

`evaluate` gives a report, the dict that `tfllv evaluate restoration -o` writes as JSON:

- `metrics`: a row for each metric: `key`, `name`, `variant` and `protocol` say what the number is, `mean`, `sd` (of the
  images, N - 1), `interval` (95 %, of the mean), `images` (how many the mean is over), `infinite` (pictures equal to
  their truth, whose PSNR is infinite; they are left out of the mean). None where there is no number.
- `images`: for each pair its `name`, files, size, `scene`, and `scores` by key; `notes` say why a score is None.
- `missing` and `failed`: pictures without a counterpart, pairs that could not be scored. `left_out`: metrics that need
  a package which is absent. `protocol`: what holds for all rows. `tfllv`, `created`, `seed`, `resamples`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import datetime
import math
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import tfllv
from tfllv import contracts, metrics
from tfllv.evaluate import bootstrap, image_pairs
from tfllv.inputs import image_files
from tfllv.runner.files import MemoryBudget

PROTOCOL = (
    "8-bit sRGB, each picture whole, nothing resized or cropped; one score a picture, then their mean. GT-mean rows "
    "forgive a wrong exposure and are dBs higher: compare them with GT-mean figures only."
)
PROTOCOL_INTERVAL = "{level:.0%} percentile bootstrap of the mean over images, {resamples:,} resamples, seed {seed}"
_BUDGET = 2 << 30
# Bytes a pixel: the three uint8 pictures, and the float64 planes of NIQE, the largest of the metrics.
_PIXEL_BYTES = 40
_DIGITS = {"PSNR": 3, "NIQE": 3}


def choose_metrics(names: Sequence[str] | None = None) -> tuple[list[str], dict[str, str]]:
    """Returns the metrics to compute, in the order of the table, and why others are left out.

    Args:
      names: keys of `metrics.METRICS` or `metrics.OPTIONAL`; None takes all that are installed.

    Raises:
      ValueError: if a name is unknown, or none is given.
      ImportError, OSError: if a metric that was named needs what is absent.
    """
    table = {**metrics.METRICS, **metrics.OPTIONAL}
    for name in names or ():
        if name not in table:
            raise ValueError(f"`metrics` must name metrics. Received: '{name}'; {contracts.nearest_name(name, table)}")
    if names is not None and not names:
        raise ValueError("`metrics` must name at least one metric. Received: none.")
    chosen = [key for key in table if key in names] if names else list(metrics.METRICS)
    left_out = {}
    for key in metrics.OPTIONAL:
        if names and key not in names:
            continue
        try:
            metrics.measure(key, *[np.zeros((64, 64, 3), np.uint8)] * 2)
        except (ImportError, OSError) as error:
            if names:
                raise ValueError(" ".join(str(error).split())) from None
            left_out[key] = " ".join(str(error).split())
        else:
            chosen += [] if key in chosen else [key]
    return chosen, left_out


def evaluate(
    pairs: Sequence[image_pairs.ImagePair],
    *,
    enhancer: Any = None,
    names: Sequence[str] | None = None,
    missing: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
    seed: int = 0,
    resamples: int = bootstrap.RESAMPLES,
    threads: int | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Scores every pair by every metric.

    Args:
      pairs: as `image_pairs.pair_folders` or `image_pairs.pair_table` give.
      enhancer: an `enhancers.Enhancer` run on each picture first; None scores the pictures as they are.
      names: metrics, as `choose_metrics`.
      missing: lines for the report's `missing`.
      about: further entries of the report: method, folders.
      seed: of the bootstrap.
      resamples: of the bootstrap.
      threads: pairs in work at once; None: as there are cores. Memory is bounded besides, to about 2 GB.
      progress: show a bar on standard error.

    Returns:
      The report. A pair that cannot be read is in `failed`, and the rest is done.

    Raises:
      ValueError: before any work, if two pictures of a pair differ in size or an option is wrong; after it, if no pair
        could be scored.
    """
    chosen, left_out = choose_metrics(names)
    failed = [{"what": pair.name, "reason": reason} for pair, reason in image_pairs.check_sizes(pairs)]
    broken = {row["what"] for row in failed}
    scorer = _Scorer(chosen, enhancer)
    images: list[dict[str, Any]] = []
    sound = [pair for pair in pairs if pair.name not in broken]
    for pair, result in zip(sound, _run(scorer, sound, threads, progress), strict=True):
        if isinstance(result, str):
            failed.append({"what": pair.name, "reason": result})
        else:
            images.append(result)
    if not images:
        raise ValueError(f"no pair could be scored: {'; '.join(row['reason'] for row in failed)}.")
    return {
        "tfllv": tfllv.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **(about or {}),
        "protocol": PROTOCOL,
        "protocol_interval": PROTOCOL_INTERVAL.format(level=bootstrap.LEVEL, resamples=resamples, seed=seed),
        "seed": seed,
        "resamples": resamples,
        "pairs": len(pairs),
        "metrics": [_summarise(key, images, seed, resamples) for key in chosen],
        "images": [_finite(image) for image in images],
        "missing": list(missing),
        "failed": failed,
        "left_out": left_out,
    }


class _Scorer:
    """What the workers share: the metrics, the enhancer with its turn, and the memory budget."""

    def __init__(self, names: Sequence[str], enhancer: Any):
        self.names, self.enhancer = names, enhancer
        self.budget = MemoryBudget(_BUDGET)
        # A network spreads over all cores by itself.
        network = enhancer is not None and enhancer.method.kind == "network"
        self.turn: Any = threading.Lock() if network else contextlib.nullcontext()

    def score(self, pair: image_pairs.ImagePair) -> dict[str, Any] | str:
        """Returns the report's entry for one pair, or why there is none."""
        try:
            width, height = image_files.read_header(pair.truth).upright_size
            with self.budget.hold(_PIXEL_BYTES * width * height):
                scores, notes = self._measure(self._picture(pair), _to_uint8(_read(pair.truth)))
        except (ValueError, OSError, MemoryError) as error:
            return " ".join(str(error).split()) or type(error).__name__
        entry: dict[str, Any] = {"name": pair.name, "picture": str(pair.picture), "truth": str(pair.truth)}
        entry |= {"scene": pair.scene} if pair.scene else {}
        return entry | {"width": width, "height": height, "scores": scores, "notes": notes}

    def _picture(self, pair: image_pairs.ImagePair) -> np.ndarray:
        pixels = _read(pair.picture)
        if self.enhancer is not None:
            with self.turn:
                pixels = self.enhancer.tiled(pixels)
        return _to_uint8(pixels)

    def _measure(self, picture: np.ndarray, truth: np.ndarray) -> tuple[dict[str, float | None], list[str]]:
        scores: dict[str, float | None] = {}
        notes = []
        for key in self.names:
            try:
                scores[key] = metrics.measure(key, picture, truth)
            except ValueError as error:  # a picture may be too small or too flat for one metric, not for the others
                scores[key] = None
                notes.append(f"{key}: {error}")
        return scores, notes


def _read(path: os.PathLike[str]) -> np.ndarray:
    return image_files.read_image(path).pixels


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return contracts.to_uint8(contracts.to_float(pixels)) if pixels.dtype != np.uint8 else pixels


def _run(
    scorer: _Scorer, pairs: Sequence[image_pairs.ImagePair], threads: int | None, progress: bool
) -> list[dict[str, Any] | str]:
    from tqdm import tqdm

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(threads or cores, "tfllv-score") as pool:
        try:
            results = pool.map(scorer.score, pairs)
            bar = tqdm(results, total=len(pairs), unit="pair", disable=not progress, file=sys.stderr, leave=False)
            return list(bar)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _summarise(key: str, images: Sequence[Mapping[str, Any]], seed: int, resamples: int) -> dict[str, Any]:
    """Returns one metric's row of the report."""
    metric = {**metrics.METRICS, **metrics.OPTIONAL}[key]
    scores = [image["scores"][key] for image in images if image["scores"][key] is not None]
    values = np.array([score for score in scores if math.isfinite(score)])
    interval = bootstrap.mean_interval(values, seed=seed, resamples=resamples)
    return {
        "key": key,
        "name": metric.name,
        "variant": metric.variant,
        "protocol": metric.protocol,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "mean": float(values.mean()) if len(values) else None,
        "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
        "interval": list(interval) if interval else None,
        "images": len(values),
        "infinite": len(scores) - len(values),
    }


def _finite(image: dict[str, Any]) -> dict[str, Any]:
    """Returns an image's entry without infinity, which JSON does not have."""
    infinite = [key for key, score in image["scores"].items() if score is not None and math.isinf(score)]
    scores = {key: None if key in infinite else score for key, score in image["scores"].items()}
    return image | {"scores": scores, "notes": image["notes"] + [f"{key}: infinite, no error" for key in infinite]}


def table(report: Mapping[str, Any]) -> str:
    """Returns the report as text: a line for each metric with its protocol, and what holds for all of them."""
    head = ("metric", "protocol", "better", "mean", "sd", "95 % interval", "images")
    rows = [head, *(_cells(row) for row in report["metrics"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += ["", f"All rows: {report['protocol']}", f"Intervals: {report['protocol_interval']}."]
    infinite = max((row["infinite"] for row in report["metrics"]), default=0)
    if infinite:
        lines.append(f"Pictures equal to their truth: {infinite}; their PSNR is infinite and not in the mean.")
    scenes = {image["scene"] for image in report["images"] if "scene" in image}
    if 0 < len(scenes) < len(report["images"]):
        lines.append(
            f"The {len(report['images'])} pictures are of {len(scenes)} scenes: pictures of one scene are alike, so an "
            "interval over scenes would be wider."
        )
    lines += [f"{key} is left out: {reason}" for key, reason in report["left_out"].items()]
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    family = row["name"].replace("-", " ").split()[0]  # the variant says the rest
    digits = _DIGITS.get(family, 4)

    def show(value: float | None) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    mean = f"{show(row['mean'])}{' ' + row['unit'] if row['unit'] else ''}"
    interval = f"{show(row['interval'][0])} ... {show(row['interval'][1])}" if row["interval"] else "-"
    better = "higher" if row["higher_is_better"] else "lower"
    return (family, row["variant"], better, mean, show(row["sd"]), interval, str(row["images"]))
