"""Finds pictures of one scene in two sets: what a test set must not share with what was trained on.

The dark and the bright picture of a scene count as one, so do copies that were resized, recompressed or slightly cut.
LOL-v1's training set holds LOL-v2's test set, for example, and a scene of its own: `low/2.png` is `eval15/low/1.png`.
"""

from __future__ import annotations

import concurrent.futures
import csv
import datetime
import hashlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

import tfllv
from tfllv import contracts
from tfllv.inputs import files, image_files
from tfllv.ops import similarity

PROTOCOL = (
    "correlation of the two pictures' maps of edges, at the best of 49 relative scales and all shifts; 1 is one "
    "picture, different scenes stay under 0.3. Pictures whose pixels are equal have 1."
)


def list_images(source: str | os.PathLike[str], *, name: str = "a") -> list[pathlib.Path]:
    """Returns the images that a set stands for.

    Args:
      source: a folder (with its sub-folders), an image, a CSV file (every image it names), or one of its columns, as
        `pairs.csv:low`. What a CSV names is relative to its folder.
      name: the argument's name, for messages.

    Raises:
      ValueError: if the CSV names no image, or has no such column.
      OSError: if something is missing.
    """
    path = pathlib.Path(source)
    if path.is_dir():
        return files.find_images(path, name=name)
    table, column = path, ""
    if not path.exists() and ":" in path.name:
        stem, _, column = path.name.rpartition(":")
        table = path.with_name(stem)
    if not table.is_file():
        raise FileNotFoundError(f"`{name}` must be a folder, an image or a CSV file. Received: '{source}'.")
    if table.suffix.lower() in contracts.IMAGE_SUFFIXES:
        return [table]
    images = _named_images(table, column)
    if not images:
        raise ValueError(f"`{name}` must name images. Received: '{source}', which names none.")
    for image in images:
        if not image.is_file():
            raise FileNotFoundError(f"{table} names {image}, which does not exist.")
    return images


def _named_images(table: pathlib.Path, column: str) -> list[pathlib.Path]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table}: not a CSV file ({error}).") from None
    if column and rows and column not in rows[0]:
        raise ValueError(f"{table} must have the column '{column}'. Received: {', '.join(map(str, rows[0]))}.")
    cells = [cell for row in rows for key, cell in row.items() if isinstance(cell, str) and column in ("", key)]
    named = (cell for cell in cells if pathlib.PurePath(cell).suffix.lower() in contracts.IMAGE_SUFFIXES)
    return [table.parent / cell for cell in dict.fromkeys(named)]


def find_leaks(
    a: Sequence[pathlib.Path],
    b: Sequence[pathlib.Path],
    *,
    threshold: float = similarity.THRESHOLD,
    flip: bool = False,
) -> dict[str, Any]:
    """Finds the pictures of two sets that show one scene.

    Args:
      a: image files of one set.
      b: image files of the other.
      threshold: the least score, in (0, 1].
      flip: look for mirrored pictures too.

    Returns:
      The report: `pairs` (each `a`, `b`, `score`, `flipped`, `equal`: whether the pixels are the same), best first;
      `leaked_a` and `leaked_b`, how many pictures of each set are in one; `count_a`, `count_b`; `textureless`, pictures
      without an edge, which only equal ones match; `protocol`, `threshold`, `flip`.

    Raises:
      ValueError: if a set is empty, both are one, or a picture cannot be read: what was not looked at may leak.
    """
    a, b = list(a), list(b)
    if not a or not b:
        raise ValueError(f"`a` and `b` must hold images. Received: {len(a)} and {len(b)}.")
    if [path.resolve() for path in a] == [path.resolve() for path in b]:
        raise ValueError(f"`a` and `b` must be two sets. Received: the same {len(a)} images twice.")
    prints_a, digests_a = _read_all(a)
    prints_b, digests_b = _read_all(b)
    found = {
        (match.a, match.b): (match.score, match.flipped)
        for match in similarity.find_same_scenes(prints_a, prints_b, threshold=threshold, flip=flip)
    }
    equal = _equal(digests_a, digests_b)
    found.update(dict.fromkeys(equal, (1.0, False)))
    pairs = [
        {"a": str(a[i]), "b": str(b[j]), "score": round(score, 4), "flipped": flipped, "equal": (i, j) in equal}
        for (i, j), (score, flipped) in sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
    ]
    return {
        "tfllv": tfllv.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "protocol": PROTOCOL,
        "threshold": threshold,
        "flip": flip,
        "count_a": len(a),
        "count_b": len(b),
        "leaked_a": len({i for i, _ in found}),
        "leaked_b": len({j for _, j in found}),
        "pairs": pairs,
        "textureless": [
            str(path) for path, each in zip([*a, *b], [*prints_a, *prints_b], strict=True) if not each.textured
        ],
    }


def _read_all(paths: Sequence[pathlib.Path]) -> tuple[list[similarity.Fingerprint], list[bytes]]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(min(cores, 8), "tfllv-print") as pool:
        results = list(pool.map(_read, paths))
    return [each for each, _ in results], [digest for _, digest in results]


def _read(path: pathlib.Path) -> tuple[similarity.Fingerprint, bytes]:
    pixels = image_files.read_image(path).pixels
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return similarity.fingerprint(pixels), digest.digest()


def _equal(a: Sequence[bytes], b: Sequence[bytes]) -> set[tuple[int, int]]:
    places: dict[bytes, list[int]] = {}
    for index, digest in enumerate(b):
        places.setdefault(digest, []).append(index)
    return {(i, j) for i, digest in enumerate(a) for j in places.get(digest, ())}
